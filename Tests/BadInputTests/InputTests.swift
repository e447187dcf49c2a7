import Apus
import TestSupport
import Testing

/// Inputs that do not fit a right engine, and values that are unusual but allowed.
@Suite struct InputTests {
  private static func engine() throws -> Engine {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    return try Engine(path: place.path("good.apus"))
  }

  private static func floats(_ shape: [Int], _ values: [Float]) -> HostTensor {
    HostTensor(.f32, shape, elements: values)
  }

  private func problems(_ engine: Engine, _ inputs: [String: HostTensor]) throws -> [Diagnostic] {
    let context = try engine.makeContext()
    do throws(RunError) {
      _ = try context.run(inputs: inputs)
      return []
    } catch { return error.problems }
  }

  @Test func inputsThatDoNotFitAreNamed() throws {
    let engine = try Self.engine()
    let right = Self.floats([2, 4], (0..<8).map { Float($0) })
    #expect(try problems(engine, ["x": right]).isEmpty)

    let missing = try problems(engine, [:])
    #expect(missing.map(\.code) == ["APUS-R-0001"] && missing[0].place == "input 'x'", "\(missing)")

    let unknown = try problems(engine, ["x": right, "mask": right])
    #expect(unknown.map(\.code) == ["APUS-R-0002"] && unknown[0].place == "input 'mask'", "\(unknown)")
    #expect(unknown[0].hint.contains("'x'"))

    let type = try problems(engine, ["x": HostTensor(.i64, [2, 4], elements: Array(Int64(0)..<8))])
    #expect(type.map(\.code) == ["APUS-R-0003"] && type[0].message.contains("i64[2, 4]"), "\(type)")

    let rank = try problems(engine, ["x": Self.floats([4], [1, 2, 3, 4])])
    #expect(rank.map(\.code) == ["APUS-R-0004"] && rank[0].place == "input 'x'", "\(rank)")

    let shape = try problems(engine, ["x": Self.floats([2, 5], (0..<10).map { Float($0) })])
    #expect(shape.map(\.code) == ["APUS-R-0005"] && shape[0].place == "input 'x', axis 1", "\(shape)")

    let several = try problems(engine, ["mask": right, "cache": right])
    #expect(several.map(\.code) == ["APUS-R-0002", "APUS-R-0002", "APUS-R-0001"], "\(several)")
  }

  @Test func notANumberAndInfinityPassThrough() throws {
    let context = try Self.engine().makeContext()
    var values = [Float](repeating: 1, count: 16)
    values[0] = .nan
    values[4] = .infinity
    values[8] = -.infinity
    let y = try #require(try context.run(inputs: ["x": Self.floats([4, 4], values)])["y"]?.tensor)
    let found = y.elements(as: Float.self)
    #expect(y.shape == [4, 3])
    #expect(found[0..<3].allSatisfy { $0.isNaN }, "\(found)")
    // Row 0 of the weights is -5.5, -4.5, -3.5.
    #expect(found[3..<6].allSatisfy { $0 == 0 } && found[6..<9].allSatisfy { $0 == .infinity }, "\(found)")
    #expect(found[9..<12].elementsEqual([0, 0, 4]), "\(found)")
  }

  @Test func anEmptyBatchGivesAnEmptyResult() throws {
    let context = try Self.engine().makeContext()
    let y = try #require(try context.run(inputs: ["x": Self.floats([0, 4], [])])["y"]?.tensor)
    #expect(y.shape == [0, 3] && y.elementCount == 0)
  }

  @Test func theCommandLineNamesInputs() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    try place.refuses("run", "good.apus", "--input", "y=a.npy", saying: ["APUS-C-0002", "'y'", "Known: x."])
    try place.refuses("run", "good.apus", "--input", "x=a.npy", saying: ["a.npy", "No such file"])
    try place.refuses("run", "good.apus", "--shape", "x=2x3", saying: ["APUS-C-0005", "--shape x=2x3"])
    try place.refuses("run", "good.apus", saying: ["APUS-C-0007", "input 'x'", "--shape x="])
    try place.write([0x93] + Array("NUMPY nonsense".utf8), "a.npy")
    try place.refuses("run", "good.apus", "--input", "x=a.npy", saying: ["APUS-N-", "a.npy"])
  }
}
