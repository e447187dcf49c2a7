import CApusHost

/// The instruction sets of this machine.
public struct CPUFeatures: Sendable {
  /// `x86-64` or `arm64`.
  public let architecture: String
  /// Names as compilers spell them: `avx2`, `avx512f`, ….
  public let names: [String]
  /// Processors this process may run on.
  public let processorCount: Int
  /// The processor's name: `AMD EPYC 9655 96-Core Processor`.
  public let model: String

  /// Features that each level adds to the one before it.
  private static let levels: [(name: String, features: [String])] = [
    ("x86-64", []),
    ("x86-64-v2", ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"]),
    ("x86-64-v3", ["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"]),
    ("x86-64-v4", ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
  ]

  /// Asks the processor.
  public init() {
    architecture = String(cString: apus_architecture())
    var names: [String] = []
    var index: Int32 = 0
    while let name = apus_feature_name(index) {
      if apus_feature_supported(index) != 0 { names.append(String(cString: name)) }
      index += 1
    }
    self.names = names
    processorCount = Int(apus_processor_count())
    var text = [CChar](repeating: 0, count: 64)
    apus_processor_model(&text)
    model = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  init(architecture: String, names: [String]) {
    self.architecture = architecture
    self.names = names
    processorCount = 1
    model = "unknown"
  }

  /// The highest instruction-set level: `x86-64-v4`, or the architecture where there are no levels.
  public var level: String {
    if architecture != "x86-64" { return architecture }
    return Self.levels.last { missing(for: $0.name) == [] }?.name ?? architecture
  }

  /// How far a level goes: 0 for none, or for one that is not known.
  func rank(of target: String) -> Int { Self.levels.firstIndex { $0.name == target } ?? 0 }

  /// What this machine lacks to run code for a level; nil when the level is of another architecture or unknown.
  public func missing(for target: String) -> [String]? {
    if target == architecture { return [] }
    guard architecture == "x86-64", let last = Self.levels.firstIndex(where: { $0.name == target }) else { return nil }
    return Self.levels[...last].flatMap(\.features).filter { !names.contains($0) }
  }
}
