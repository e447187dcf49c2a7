import ApusCPUDevice

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The machine's processor and memory as the system describes them.
struct Processor {
  let features = CPUFeatures()
  /// Cores of the machine; ``features`` says how many of them this process may use.
  let cores: Int
  let memoryBytes: Int
  let availableBytes: Int

  static var current: Processor {
    let memory = SystemFile.fields("/proc/meminfo")
    func kibibytes(_ name: String) -> Int {
      (memory[name]?.split(separator: " ").first).flatMap { Int($0) }.map { $0 * 1024 } ?? 0
    }
    return Processor(
      cores: Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), memoryBytes: kibibytes("MemTotal"),
      availableBytes: kibibytes("MemAvailable"))
  }

  var text: String {
    """
      model: \(features.model)
      level: \(features.level)
      features: \(features.names.joined(separator: ", "))
      cores: \(features.processorCount) usable of \(cores)
      memory: \(Units.bytes(memoryBytes)), \(Units.bytes(availableBytes)) available
    """
  }

  var json: JSON {
    .object([
      ("model", .string(features.model)), ("level", .string(features.level)),
      ("usable_cores", .int(features.processorCount)), ("cores", .int(cores)), ("memory_bytes", .int(memoryBytes)),
      ("available_bytes", .int(availableBytes)), ("features", .strings(features.names)),
    ])
  }
}

/// Text files in which the system describes itself.
enum SystemFile {
  /// Lines of the file; none when it cannot be read.
  static func lines(_ path: String) -> [String] {
    let descriptor = open(path, O_RDONLY)
    if descriptor < 0 { return [] }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  /// The first value of each `name: value` line.
  static func fields(_ path: String) -> [String: String] {
    var fields: [String: String] = [:]
    for line in lines(path) {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let name = String(line[..<colon].reversed().drop(while: \.isWhitespace).reversed())
      if fields[name] == nil { fields[name] = String(line[line.index(after: colon)...].drop(while: \.isWhitespace)) }
    }
    return fields
  }
}
