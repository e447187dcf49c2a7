#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The machine's processor and memory as the system describes them.
struct Processor {
  var model: String
  var features: Set<String>
  /// Cores this process may use, and those of the machine.
  var usableCores: Int
  var cores: Int
  var memoryBytes: Int
  var availableBytes: Int

  static var current: Processor {
    let fields = SystemFile.fields("/proc/cpuinfo")
    let memory = SystemFile.fields("/proc/meminfo")
    func kibibytes(_ name: String) -> Int {
      (memory[name]?.split(separator: " ").first).flatMap { Int($0) }.map { $0 * 1024 } ?? 0
    }
    let cores = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    let allowed = SystemFile.fields("/proc/self/status")["Cpus_allowed"] ?? ""
    let usable = allowed.reduce(0) { $0 + ($1.hexDigitValue ?? 0).nonzeroBitCount }
    return Processor(
      model: fields["model name"] ?? "unknown",
      features: Set((fields["flags"] ?? fields["Features"] ?? "").split(separator: " ").map(String.init)),
      usableCores: usable > 0 ? min(usable, cores) : cores, cores: cores, memoryBytes: kibibytes("MemTotal"),
      availableBytes: kibibytes("MemAvailable"))
  }

  /// Features of each level beyond the one before, as Linux spells them.
  private static let levels: [(name: String, features: [String])] = [
    ("x86-64", ["sse2"]),
    ("x86-64-v2", ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    ("x86-64-v3", ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"]),
    ("x86-64-v4", ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
  ]

  /// The highest level of which the processor has every feature.
  var level: String {
    var level = "unknown"
    for (name, needed) in Self.levels {
      if !features.isSuperset(of: needed) { break }
      level = name
    }
    return level
  }

  /// Features beyond the levels that kernels can make use of.
  var extensions: [String] {
    ["avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"]
      .filter(features.contains)
  }

  var text: String {
    """
      model: \(model)
      level: \(level)\(extensions.isEmpty ? "" : ", with " + extensions.joined(separator: ", "))
      cores: \(usableCores) usable of \(cores)
      memory: \(Units.bytes(memoryBytes)), \(Units.bytes(availableBytes)) available
    """
  }

  var json: JSON {
    .object([
      ("model", .string(model)), ("level", .string(level)), ("extensions", .strings(extensions)),
      ("usable_cores", .int(usableCores)), ("cores", .int(cores)), ("memory_bytes", .int(memoryBytes)),
      ("available_bytes", .int(availableBytes)), ("features", .strings(features.sorted())),
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
