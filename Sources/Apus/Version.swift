/// Version of this release, as `apus --version` prints it and engines record it.
public let apusVersion = "0.1.0"
