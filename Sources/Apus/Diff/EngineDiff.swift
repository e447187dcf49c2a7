import ApusCompiler
import ApusCore
package import ApusPlan
import ApusRuntime

/// What two engines differ in, said so that it can be acted on.
package struct EngineDiff: Sendable {
  /// What a difference is about.
  package enum Topic: String, Sendable, CaseIterable {
    case model, target, profile, interface, fusion, tactic, precision, kernel, lane, memory, constants, code, time,
      bytes
  }

  /// One difference; what one engine lacks is nil.
  package struct Entry: Sendable, Hashable {
    package var topic: Topic
    /// Target and profile, or nothing where it is the engine's.
    package var place: String
    /// What is compared: nodes, a size.
    package var subject: String
    package var first: String?
    package var second: String?
  }

  package private(set) var entries: [Entry] = []

  /// Compares two engines' plans.
  package init(_ first: [Plan], _ second: [Plan]) {
    compareModels(first, second)
    for target in (first.targets + second.targets.filter { !first.targets.contains($0) }) {
      let a = first.filter { $0.fingerprint == target }
      let b = second.filter { $0.fingerprint == target }
      if a.isEmpty || b.isEmpty {
        add(.target, "", target.target, a.isEmpty ? nil : Self.text(target), b.isEmpty ? nil : Self.text(target))
        continue
      }
      compare(a, b, target.target)
    }
  }

  package mutating func add(_ topic: Topic, _ place: String, _ subject: String, _ first: String?, _ second: String?) {
    if first != second {
      entries.append(Entry(topic: topic, place: place, subject: subject, first: first, second: second))
    }
  }

  private static func text(_ target: Fingerprint) -> String {
    let features = target.features.isEmpty ? "" : " with \(target.features.joined(separator: ", "))"
    return "\(target.backend) \(target.target)\(features), format \(target.format), compiler \(target.compiler)"
  }

  private mutating func compareModels(_ first: [Plan], _ second: [Plan]) {
    guard let a = first.first, let b = second.first else { return }
    add(.model, "", "name", a.name, b.name)
    add(.model, "", "content", a.modelHash, b.modelHash)
    for key in Set(a.metadata.keys).union(b.metadata.keys).sorted() {
      add(.model, "", "metadata '\(key)'", a.metadata[key], b.metadata[key])
    }
    let sizes = (a.constants.byteCount, b.constants.byteCount)
    add(.constants, "", "bytes", "\(sizes.0)", "\(sizes.1)")
    if sizes.0 == sizes.1, let at = zip(a.constants.bytes, b.constants.bytes).firstDifference {
      add(.constants, "", "first different byte, at \(at)", "\(a.constants.bytes[at])", "\(b.constants.bytes[at])")
    }
  }

  /// Compares the plans of one target.
  private mutating func compare(_ first: [Plan], _ second: [Plan], _ target: String) {
    let names = first.map(\.profile.name) + second.map(\.profile.name)
    var seen: Set<String> = []
    for name in names where seen.insert(name).inserted {
      let (a, b) = (first.first { $0.profile.name == name }, second.first { $0.profile.name == name })
      guard let a, let b else {
        add(.profile, target, name, a?.profile.text, b?.profile.text)
        continue
      }
      let place = "\(target), profile '\(name)'"
      add(.profile, place, "sizes", a.profile.text, b.profile.text)
      compareBindings(a.inputs, b.inputs, "input", place)
      compareBindings(a.outputs, b.outputs, "output", place)
      var steps = StepDiff(a, b)
      steps.compare()
      for entry in steps.entries { add(entry.topic, place, entry.subject, entry.first, entry.second) }
      compareMemory(a, b, place)
      add(.time, place, "recorded when built", Self.text(a.timings), Self.text(b.timings))
    }
    guard let a = first.first, let b = second.first else { return }
    add(.code, target, "kernels", "\(a.functions.count)", "\(b.functions.count)")
    add(
      .code, target, "bytes of code", "\(a.images.reduce(0) { $0 + $1.bytes.count })",
      "\(b.images.reduce(0) { $0 + $1.bytes.count })")
    for (index, pair) in zip(a.images, b.images).enumerated() where pair.0.bytes != pair.1.bytes {
      add(.code, target, "image \(index)", ContentHash.hex(bytes: pair.0.bytes), ContentHash.hex(bytes: pair.1.bytes))
    }
  }

  private static func text(_ timings: [Timing]) -> String? {
    timings.isEmpty ? nil : timings.map { "\(($0.seconds * 1e6).rounded() / 1e3) ms" }.joined(separator: ", ")
  }

  private mutating func compareBindings(_ first: [Binding], _ second: [Binding], _ word: String, _ place: String) {
    let (a, b) = (Self.types(first), Self.types(second))
    for name in Set(a.keys).union(b.keys).sorted() { add(.interface, place, "\(word) '\(name)'", a[name], b[name]) }
  }

  private static func types(_ bindings: [Binding]) -> [String: String] {
    Dictionary(
      bindings.map { ($0.name, $0.type.description + ($0.values.map { " of \($0)" } ?? "")) },
      uniquingKeysWith: { first, _ in first })
  }

  private mutating func compareMemory(_ first: Plan, _ second: Plan, _ place: String) {
    let (a, b) = (first.forecastAtOpt, second.forecastAtOpt)
    func size(_ value: Int?) -> String? { value.map { "\($0) bytes" } }
    add(.memory, place, "arena", size(a?.arenaByteCount), size(b?.arenaByteCount))
    add(.memory, place, "largest arena", size(first.largestArenaByteCount), size(second.largestArenaByteCount))
    add(.memory, place, "scratch per thread", size(a?.scratchByteCount), size(b?.scratchByteCount))
  }
}

extension Plan {
  /// What a run at the sizes that the profile is tuned for takes; nil when that cannot be said.
  fileprivate var forecastAtOpt: MemoryForecast? {
    var shapes: [String: [Int]] = [:]
    for input in inputs { shapes[input.name] = input.type.tensor?.shape.map(\.estimate) }
    return try? memoryForecast(shapes: shapes)
  }
}

extension Profile {
  fileprivate var text: String {
    ranges.isEmpty ? "all sizes" : ranges.map { "\($0.symbol)=\($0.sizesText)" }.joined(separator: ", ")
  }
}

extension ContentHash {
  fileprivate static func hex(bytes: [UInt8]) -> String {
    var hash = ContentHash()
    bytes.withUnsafeBytes { hash.add($0) }
    return hash.hex
  }
}

extension Zip2Sequence where Sequence1 == UnsafeRawBufferPointer, Sequence2 == UnsafeRawBufferPointer {
  /// The place of the first pair that is not equal.
  fileprivate var firstDifference: Int? { enumerated().first { $1.0 != $1.1 }?.offset }
}
