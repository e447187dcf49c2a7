import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

@Suite struct ShapeBindingTests {
  static let n = Dim(Symbol("n", Interval(1, 16)))
  static let m = Dim(Symbol("m", Interval(1, 100)))

  static func engine() throws -> Engine {
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [Symbol("n", Interval(1, 16)), Symbol("m", Interval(1, 100))]
    _ = maker.input("a", .f32, [n, 3])
    _ = maker.input("b", .i64, [n, 2 * m + 1])
    _ = maker.input("s", .sequence(.tensor(TensorType(.string, [4]))))
    return try Engine(plans: [maker.finish()], device: NullDevice())
  }

  static let a = HostTensor(.f32, [2, 3], doubles: [1, 2, 3, 4, 5, 6])
  static func b(_ rows: Int, _ columns: Int) -> HostValue { .tensor(HostTensor(.i64, [rows, columns])) }
  static let s = HostValue.sequence([], element: .tensor(TensorType(.string, [4])))

  @Test(
    arguments: [
      (["b": b(2, 5), "s": s], ["APUS-R-0001 input 'a'"]),
      (["a": .tensor(a), "b": b(2, 5), "s": s, "q": s], ["APUS-R-0002 input 'q'"]),
      (["a": b(2, 3), "b": b(2, 5), "s": s], ["APUS-R-0003 input 'a'"]),
      (["a": .tensor(a.reshaped([6])), "b": b(2, 5), "s": s], ["APUS-R-0004 input 'a'"]),
      (["a": .tensor(a.reshaped([3, 2])), "b": b(3, 5), "s": s], ["APUS-R-0005 input 'a', axis 1"]),
      (["a": .tensor(a), "b": b(2, 4), "s": s], ["APUS-R-0005 input 'b', axis 1"]),
      (["a": .tensor(a), "b": b(3, 5), "s": s], ["APUS-R-0006 input 'b', axis 0"]),
      (["a": .tensor(HostTensor(.f32, [17, 3])), "b": b(17, 5), "s": s], ["APUS-R-0007 input 'a', axis 0"]),
      (["a": .tensor(HostTensor(.f32, [0, 3])), "b": b(0, 5), "s": s], ["APUS-R-0007 input 'a', axis 0"]),
      (["a": .tensor(a), "b": b(2, 203), "s": s], ["APUS-R-0007 input 'b', axis 1"]),
      (["a": s, "b": b(2, 5), "s": .tensor(a)], ["APUS-R-0003 input 'a'", "APUS-R-0003 input 's'"]),
      ([:], ["APUS-R-0001 input 'a'", "APUS-R-0001 input 'b'", "APUS-R-0001 input 's'"]),
      (["a": .tensor(a), "b": b(2, 5), "s": s], []),
    ] as [([String: HostValue], [String])])
  func problemsAreNamed(inputs: [String: HostValue], expected: [String]) throws {
    let context = try Self.engine().makeContext()
    #expect(problems { _ = try context.run(inputs: inputs) } == expected)
  }

  @Test func messagesSayWhatWasExpectedAndFound() throws {
    let context = try Self.engine().makeContext()
    let inputs = ["a": HostValue.tensor(Self.a), "b": Self.b(3, 5), "s": Self.s]
    let error = #expect(throws: RunError.self) { try context.run(inputs: inputs) }
    #expect(error?.description.contains("the size is 3, but 'n' is 2 at input 'a', axis 0") == true)
  }

  @Test func memoryOfTheCallerIsChecked() throws {
    let context = try Self.engine().makeContext()
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
    defer { bytes.deallocate() }
    let memory = UnsafeRawBufferPointer(bytes)
    #expect(problems { try context.bind(input: "a", to: memory, shape: [6, 3]) } == ["APUS-R-0011 input 'a'"])
    #expect(problems { try context.bind(input: "a", to: memory, shape: [6]) } == ["APUS-R-0004 input 'a'"])
    #expect(problems { try context.bind(input: "a", to: memory, shape: [-1, 3]) } == ["APUS-R-0005 input 'a'"])
    let odd = UnsafeRawBufferPointer(rebasing: memory[1...])
    #expect(problems { try context.bind(input: "a", to: odd, shape: [1, 3]) } == ["APUS-R-0011 input 'a'"])
    #expect(problems { try context.bind(input: "x", to: memory, shape: []) } == ["APUS-R-0002 input 'x'"])
    #expect(problems { _ = try context.output("y") } == ["APUS-R-0002 output 'y'"])
  }

  @Test func forecastNeedsNoMemory() throws {
    let huge = Dim(Symbol("k", Interval(0, 1 << 40)))
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [Symbol("k", Interval(0, 1 << 40))]
    let x = maker.input("x", .f32, [huge])
    let h = maker.slot("h", .f32, [huge])
    let y = maker.output("y", .f32, [huge])
    maker.add(.copy(from: x, to: h))
    maker.add(.copy(from: h, to: y))
    let plan = maker.finish()
    let forecast = try plan.memoryForecast(shapes: ["x": [1 << 40]])
    #expect(forecast.arenaByteCount == 1 << 42 && forecast.outputByteCount == 1 << 42)
    let context = try Engine(plans: [plan], device: NullDevice(memoryByteCount: 1 << 30)).makeContext()
    let bytes = [UInt8](repeating: 0, count: 8)
    let found = bytes.withUnsafeBytes { _ in problems { _ = try plan.memoryForecast(shapes: ["x": [.max]]) } }
    #expect(found == ["APUS-R-0007 input 'x', axis 0"])
    #expect(problems { _ = try plan.memoryForecast(shapes: [:]) } == ["APUS-R-0001 input 'x'"])
    #expect(problems { _ = try context.run(inputs: ["x": HostTensor(.f32, [0])]) } == [])
  }
}
