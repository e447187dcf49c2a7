import ApusCore
import ApusPlan
import ApusRuntime
import Foundation
import Testing

/// The log of shapes that run.
@Suite struct ShapeLogTests {
  private static func engine() throws -> Engine {
    var maker = PlanMaker()
    let symbol = Symbol("n", Interval(1, 30))
    maker.plan.shapeSymbols = [symbol]
    let x = maker.input("x \"1\"", .f32, [Dim(symbol), 2])
    maker.add(.copy(from: x, to: maker.output("y", .f32, [Dim(symbol), 2])))
    return try Engine(plans: [maker.finish()], device: NullDevice())
  }

  private static func path() -> String { NSTemporaryDirectory() + "apus-shapes-\(UUID().uuidString).jsonl" }

  private func run(_ context: borrowing ExecutionContext, _ rows: Int) throws {
    let value = HostTensor(.f32, [rows, 2], doubles: (0..<2 * rows).map(Double.init))
    _ = try context.run(inputs: ["x \"1\"": value])
  }

  private func lines(_ path: String) throws -> [String] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
  }

  @Test func runsInARowAreOneLine() throws {
    let path = Self.path()
    defer { unlink(path) }
    let context = try Self.engine().makeContext()
    let log = try ShapeLog(path: path)
    try run(context, 9)
    context.record(to: log)
    for rows in [3, 3, 3, 17] { try run(context, rows) }
    try log.flush()
    try run(context, 17)
    #expect(throws: RunError.self) { try run(context, 31) }
    context.record(to: nil)
    try run(context, 5)
    try log.flush()
    try log.flush()
    let expected = [([3, 2], 3), ([17, 2], 1), ([17, 2], 1)].map {
      #"{"shapes": {"x \"1\"": \#($0)}, "count": \#($1)}"#
    }
    #expect(try lines(path) == expected)
  }

  @Test func theLastLineIsWrittenWhenTheLogIsLetGo() throws {
    let path = Self.path()
    defer { unlink(path) }
    for rows in [4, 6] {
      let context = try Self.engine().makeContext()
      context.record(to: try ShapeLog(path: path))
      try run(context, rows)
    }
    #expect(try lines(path).count == 2)
  }

  @Test func contextsShareALog() throws {
    let path = Self.path()
    defer { unlink(path) }
    let engine = try Self.engine()
    let log = try ShapeLog(path: path)
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      guard let context = try? engine.makeContext() else { return }
      context.record(to: log)
      for round in 0..<50 { try? run(context, 1 + (thread + round) % 7) }
    }
    try log.flush()
    var count = 0
    for line in try lines(path) {
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      count += object?["count"] as? Int ?? 0
    }
    #expect(count == 400)
  }

  /// Logs that open the file by themselves, as processes do.
  @Test func linesOfSeveralLogsStayWhole() throws {
    let path = Self.path()
    defer { unlink(path) }
    let engine = try Self.engine()
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      guard let context = try? engine.makeContext(), let log = try? ShapeLog(path: path) else { return }
      context.record(to: log)
      for round in 0..<200 { try? run(context, 1 + (thread + round) % 29) }
    }
    let lines = try lines(path)
    #expect(lines.count == 1600)
    #expect(lines.allSatisfy { $0.hasPrefix(#"{"shapes": {"#) && $0.hasSuffix(#""count": 1}"#) })
  }

  @Test func aFolderIsNoLog() {
    let error = #expect(throws: FileError.self) { try ShapeLog(path: NSTemporaryDirectory()) }
    #expect(error?.description.contains("Is a directory") == true)
  }

  @Test func aFullDiskFailsTheFlushAndNotTheRun() throws {
    let context = try Self.engine().makeContext()
    let log = try ShapeLog(path: "/dev/full")
    context.record(to: log)
    try run(context, 1)
    try run(context, 2)
    #expect(throws: FileError.self) { try log.flush() }
    #expect(throws: Never.self) { try log.flush() }
  }
}
