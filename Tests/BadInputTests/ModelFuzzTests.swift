import ApusCPUTarget
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusKernel
import ApusOps
import ApusPlan
import Foundation
import TestSupport
import Testing

/// Writes kernels but does not compile them, so that thousands of models can be built.
private struct WritingTarget: Target {
  let hostIsElsewhere = false
  let launchElements = 256
  let joinsLargeProducts = false
  let target: CPUCodeTarget
  var fingerprint: Fingerprint { target.fingerprint }
  var templates: [any KernelTemplate] { target.templates }
  func loops(_ kernel: Kernel) -> KernelCode { target.loops(kernel) }
  func loops(beside kernels: [Kernel]) -> KernelCode? { target.loops(beside: kernels) }
  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    [KernelImage(target: target.fingerprint.target, bytes: [])]
  }
}

/// Damaged models are read, optimised, cut into steps and written as engine files, or refused with an error.
///
/// `APUS_FUZZ_ROUNDS` sets how many models are tried and `APUS_FUZZ_SEED` where to start. With `APUS_FUZZ_TRACE` each
/// seed is printed first, so that the last one printed is the one that crashed.
@Suite struct ModelFuzzTests {
  private static let environment = ProcessInfo.processInfo.environment
  private static let rounds = environment["APUS_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 10_000
  private static let firstSeed = environment["APUS_FUZZ_SEED"].flatMap { UInt64($0) } ?? 1
  private static let isTraced = environment["APUS_FUZZ_TRACE"] != nil

  /// What became of a model: the room that refused it, or `built`.
  private func outcome(_ bytes: [UInt8], _ target: WritingTarget) -> String {
    do {
      let model = try bytes.withUnsafeBytes {
        try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
      }
      let result = try Builder.build(model.graph, name: "fuzz", targets: [target], options: BuildOptions())
      let file = try EngineFile.encode(result.plans)
      let owner = HostStorage(byteCount: file.count)
      file.withUnsafeBytes { source in
        if let base = source.baseAddress { owner.base.copyMemory(from: base, byteCount: source.count) }
      }
      _ = try EngineFile.decode(UnsafeRawBufferPointer(start: owner.base, count: file.count), owner: owner)
      return "built"
    } catch let error as ImportError {
      #expect(!error.problems.isEmpty)
      return "import"
    } catch let error as BuildError {
      #expect(!error.problems.isEmpty)
      return "build"
    } catch {
      Issue.record("what can be built can be written and read: \(error)")
      return "other"
    }
  }

  @Test func modelsAreRight() throws {
    let target = WritingTarget(target: try CPUCodeTarget(name: "x86-64-v3", machineFeatures: [], jobs: 1))
    for (name, model) in ONNXModel.all { #expect(outcome(model.bytes, target) == "built", "\(name)") }
  }

  @Test func damagedModelsNeverCrash() throws {
    let target = WritingTarget(target: try CPUCodeTarget(name: "x86-64-v3", machineFeatures: [], jobs: 1))
    var outcomes: [String: Int] = [:]
    for round in 0..<Self.rounds {
      let seed = Self.firstSeed + UInt64(round)
      if Self.isTraced { FileHandle.standardError.write(Data("seed \(seed)\n".utf8)) }
      var mutation = Mutation(seed: seed)
      let bytes = mutation.apply(to: ONNXModel.all[Int(seed % UInt64(ONNXModel.all.count))].model)
      outcomes[outcome(bytes, target), default: 0] += 1
    }
    if Self.rounds >= 1000 {
      #expect(
        (outcomes["built"] ?? 0) > Self.rounds / 50 && (outcomes["import"] ?? 0) > Self.rounds / 50, "\(outcomes)")
    }
  }
}
