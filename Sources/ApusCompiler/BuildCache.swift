package import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The folder in which compiled kernels are kept between builds.
package enum BuildCache {
  package static let knob = Knob(
    "APUS_CACHE", "directory", default: "~/.cache/apus", "where compiled kernels are kept between builds")

  private static func root() throws(BuildError) -> String {
    let folder = try knob.value()
    if !folder.hasPrefix("~") { return folder }
    return (getenv("HOME").map { String(cString: $0) } ?? "/tmp") + folder.dropFirst()
  }

  /// The cache, or a folder within it, made where it is missing.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0013` when it cannot be written.
  package static func folder(_ name: String? = nil) throws(BuildError) -> String {
    let root = try root()
    let path = name.map { "\(root)/\($0)" } ?? root
    var prefix = ""
    for part in path.split(separator: "/", omittingEmptySubsequences: false) {
      prefix += part + "/"
      if prefix != "/" { mkdir(prefix, 0o755) }
    }
    if access(path, W_OK) != 0 {
      throw BuildError(
        "APUS-B-0013", "the cache folder '\(path)' cannot be written: \(String(cString: strerror(errno)))",
        hint: "APUS_CACHE names another folder.")
    }
    return path
  }
}
