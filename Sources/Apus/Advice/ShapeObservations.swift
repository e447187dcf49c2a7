package import ApusCore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// The calls that a log of shapes tells of, as ``ShapeLog`` writes it: how often each set of shapes ran.
package struct ShapeObservations: Sendable {
  package struct Observation: Sendable, Hashable {
    package var shapes: [String: [Int]]
    package var count: Int

    package init(shapes: [String: [Int]], count: Int) {
      self.shapes = shapes
      self.count = count
    }
  }

  /// Names of the inputs, sorted; every observation has a shape for each.
  package let inputs: [String]
  /// Each set of shapes once, in an order that does not depend on that of the log.
  package let observations: [Observation]

  package var callCount: Int { observations.reduce(0) { saturatingAdd($0, $1.count) } }

  /// - Throws: ``AdviceError`` `APUS-A-0001` for no observation, `-0003` when they differ in inputs or numbers of axes.
  package init(_ given: [Observation]) throws(AdviceError) {
    guard let first = given.first else {
      throw AdviceError(
        "APUS-A-0001", "no shapes are recorded", hint: "`apus run MODEL --record-shapes FILE.jsonl` records them.")
    }
    let inputs = first.shapes.keys.sorted()
    var counts: [[[Int]]: Int] = [:]
    for observation in given {
      let shapes = inputs.map { observation.shapes[$0] ?? [] }
      let fits =
        observation.shapes.keys.sorted() == inputs
        && inputs.allSatisfy {
          observation.shapes[$0]?.count == first.shapes[$0]?.count
        }
      if !fits {
        throw AdviceError(
          "APUS-A-0003",
          "calls differ in their inputs: \(Self.text(first.shapes)) and \(Self.text(observation.shapes))",
          hint: "Keep a log for each model.")
      }
      counts[shapes] = saturatingAdd(counts[shapes] ?? 0, observation.count)
    }
    self.inputs = inputs
    observations = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) { $0.lexicographicallyPrecedes($1) } }.map {
      Observation(shapes: Dictionary(uniqueKeysWithValues: zip(inputs, $0.key)), count: $0.value)
    }
  }

  private static func text(_ shapes: [String: [Int]]) -> String {
    shapes.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
  }
}

// MARK: Reading

extension ShapeObservations {
  /// Longest line that is read.
  static let lineLimit = 1 << 20
  private static let expected = #"{"shapes": {"INPUT": [SIZE, …], …}, "count": N}"#

  /// A line of the log.
  private struct Line: Decodable {
    let shapes: [String: [Int]]
    let count: Int?
  }

  /// Reads a log. Empty lines are skipped.
  ///
  /// - Throws: ``AdviceError`` `APUS-A-0001` when there is nothing to read, `-0002` with the numbers of all lines that are not
  ///   of the form expected, `-0003` when the lines differ in inputs or numbers of axes.
  package init(contentsOf path: String) throws(AdviceError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw AdviceError("APUS-A-0001", error.description) }
    do { self = try Self.parse(file.bytes) } catch { throw error.at(path) }
    withExtendedLifetime(file) {}
  }

  package static func parse(_ bytes: UnsafeRawBufferPointer) throws(AdviceError) -> ShapeObservations {
    var counts: [[UInt8]: (first: Int, count: Int)] = [:]
    var (number, start) = (0, 0)
    while start < bytes.count {
      let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
      let line = bytes[start..<end]
      start = end + 1
      number += 1
      if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\t") }) {
        continue
      }
      // Equal lines are read once.
      let key = Array(line.prefix(lineLimit + 1))
      counts[key] = (counts[key]?.first ?? number, (counts[key]?.count ?? 0) + 1)
    }
    var observations: [Observation] = []
    var bad: [(line: Int, reason: String)] = []
    let decoder = JSONDecoder()
    for (text, lines) in counts.sorted(by: { $0.value.first < $1.value.first }) {
      do throws(LineProblem) {
        let line = try parse(Data(text), decoder)
        observations.append(
          Observation(shapes: line.shapes, count: saturatingMultiply(line.count ?? 1, lines.count)))
      } catch { bad.append((lines.first, error.reason)) }
    }
    if !bad.isEmpty { throw badLines(bad) }
    return try ShapeObservations(observations)
  }

  /// Why a line cannot be read.
  private struct LineProblem: Error {
    let reason: String
  }

  private static func parse(_ text: Data, _ decoder: JSONDecoder) throws(LineProblem) -> Line {
    if text.count > lineLimit { throw LineProblem(reason: "is longer than \(lineLimit) bytes") }
    let line: Line
    do { line = try decoder.decode(Line.self, from: text) } catch { throw LineProblem(reason: reason(error)) }
    if let count = line.count, count < 1 { throw LineProblem(reason: "has the count \(count)") }
    if line.shapes.isEmpty { throw LineProblem(reason: "names no input") }
    for (name, shape) in line.shapes.sorted(by: { $0.key < $1.key }) {
      if let size = shape.first(where: { $0 < 0 }) { throw LineProblem(reason: "gives '\(name)' the size \(size)") }
    }
    return line
  }

  private static func reason(_ error: any Error) -> String {
    func place(_ context: DecodingError.Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    switch error as? DecodingError {
    case .keyNotFound(let key, _): return "has no \"\(key.stringValue)\""
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      return "has something else at \(place(context).isEmpty ? "its start" : place(context))"
    case .dataCorrupted(let context) where !context.codingPath.isEmpty:
      return "has a number that is no size at \(place(context))"
    default: return "is no JSON"
    }
  }

  private static func badLines(_ bad: [(line: Int, reason: String)]) -> AdviceError {
    let shown = bad.prefix(8).map { "line \($0.line) \($0.reason)" }.joined(separator: ", ")
    let more = bad.count > 8 ? ", and \(bad.count - 8) more" : ""
    return AdviceError("APUS-A-0002", shown + more, place: "", hint: "Each line is expected to be \(expected).")
  }
}
