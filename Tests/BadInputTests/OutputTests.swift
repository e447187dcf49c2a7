import Foundation
import TestSupport
import Testing

/// Results that cannot be written, and a compiler that is not there: nothing half-written stays.
@Suite struct OutputTests {
  /// Weights of 256 KiB, so that the engine is much larger than its kernels.
  private static let large = ONNXModel.model(
    [ONNXModel.node("MatMul", ["x", "w"], ["y"], name: "product")],
    inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 256])],
    outputs: [ONNXModel.value("y", ONNXModel.float, ["n", 256])],
    constants: [ONNXModel.constant("w", [256, 256], floats: (0..<65536).map { Float($0 % 251) - 125 })])

  @Test func aPathThatCannotBeWrittenIsNamed() throws {
    let place = try Workplace()
    try place.write(ONNXModel.product.bytes, "good.onnx")
    try place.refuses(
      "build", "good.onnx", "-o", "nowhere/good.apus", saying: ["APUS-C-0021", "nowhere/good.apus", "No such file"])
    try FileManager.default.createDirectory(
      at: place.folder.appendingPathComponent("taken"), withIntermediateDirectories: false)
    try place.refuses("build", "good.onnx", "-o", "taken", saying: ["APUS-E-0013", "'taken'", "Is a directory"])
    try place.refuses(
      "run", "good.onnx", "--shape", "x=1x4", "--output-dir", "/proc/nowhere", saying: ["APUS-C-", "/proc/nowhere"])
  }

  /// A limit on file size stands for a disk without space.
  @Test func aFullDiskLeavesTheOldEngine() throws {
    let place = try Workplace()
    try place.build(Self.large, "large")
    let before = try place.read("large.apus")
    let full = "trap '' XFSZ; ulimit -f 128;"
    try place.refuses("build", "large.onnx", "-o", "large.apus", shell: full, saying: ["APUS-E-0013", "large.apus"])
    #expect(try place.read("large.apus") == before)
    try place.refuses("build", "large.onnx", "-o", "other.apus", shell: full, saying: ["APUS-E-0013", "other.apus"])
    try place.refuses(
      "run", "large.apus", "--shape", "x=1000x256", "--output-dir", ".", shell: full, saying: ["APUS-C-0020", "y.npy"])
  }

  @Test func aMissingCompilerIsNamedWithTheRemedy() throws {
    let place = try Workplace()
    try place.write(ONNXModel.product.bytes, "good.onnx")
    for environment in [["CC": "/nonexistent"], ["PATH": "", "CC": "clang"], ["PATH": "/nonexistent", "CC": "clang"]] {
      try place.refuses(
        "build", "good.onnx", "-o", "good.apus", environment: environment,
        saying: ["APUS-B-0011", "apt-get install clang"])
    }
  }

  @Test func aCompilerThatFailsIsQuoted() throws {
    let place = try Workplace()
    try place.write(ONNXModel.product.bytes, "good.onnx")
    try place.refuses(
      "build", "good.onnx", "-o", "good.apus", environment: ["CC": "/bin/false"],
      saying: ["APUS-B-0012", "the C compiler failed"])
  }

  @Test func aBuiltEngineNeedsNoCompiler() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    let result = try place.apus(
      ["run", "good.apus", "--shape", "x=2x4"], environment: ["CC": "/nonexistent", "PATH": ""])
    #expect(result.status == 0, "\(result.errors)")
  }

  @Test func aCacheThatCannotBeWrittenIsNamed() throws {
    let place = try Workplace()
    try place.write(ONNXModel.product.bytes, "good.onnx")
    try place.refuses(
      "build", "good.onnx", "-o", "good.apus", environment: ["APUS_CACHE": "/proc/nowhere"],
      saying: ["APUS-B-0013", "/proc/nowhere", "APUS_CACHE"])
  }
}
