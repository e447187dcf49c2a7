import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusKernel
import ApusPlan
import Foundation
import Synchronization

/// A target that makes sources and compiles nothing.
struct UncompiledTarget: Target {
  let base: CUDACodeTarget

  init(_ architecture: String) throws(BuildError) {
    base = try CUDACodeTarget(name: architecture, native: nil, jobs: 1)
  }

  var fingerprint: Fingerprint { base.fingerprint }
  var templates: [any KernelTemplate] { base.templates }
  var hostIsElsewhere: Bool { base.hostIsElsewhere }
  var launchElements: Int { base.launchElements }
  var joinsLargeProducts: Bool { base.joinsLargeProducts }
  var laneModel: (any LaneModel)? { base.laneModel }
  func loops(_ kernel: Kernel) -> KernelCode { base.loops(kernel) }
  func loops(beside kernels: [Kernel]) -> KernelCode? { base.loops(beside: kernels) }
  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    [KernelImage(target: fingerprint.target, bytes: [])]
  }
}

/// A target that compiles and keeps the sources of the last plan.
final class RecordingTarget: Target {
  let base: CUDACodeTarget
  private let sources = Mutex<[String]>([])

  init(_ architecture: String) throws(BuildError) {
    base = try CUDACodeTarget(
      name: architecture, native: nil, jobs: ProcessInfo.processInfo.activeProcessorCount)
  }

  var fingerprint: Fingerprint { base.fingerprint }
  var templates: [any KernelTemplate] { base.templates }
  var hostIsElsewhere: Bool { base.hostIsElsewhere }
  var launchElements: Int { base.launchElements }
  var joinsLargeProducts: Bool { base.joinsLargeProducts }
  var laneModel: (any LaneModel)? { base.laneModel }
  func loops(_ kernel: Kernel) -> KernelCode { base.loops(kernel) }
  func loops(beside kernels: [Kernel]) -> KernelCode? { base.loops(beside: kernels) }
  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    self.sources.withLock { $0 = sources }
    return try base.compile(sources, progress: progress)
  }

  /// Steps of the last plan whose kernels keep more in local memory for want of registers than is known, and how much for a
  /// thread.
  func spills(_ plan: Plan) throws -> [String] {
    let counts = try base.spilledByteCounts(of: sources.withLock { $0 })
    var found: Set<String> = []
    for step in plan.allSteps {
      guard case .launch(let launch) = step.action else { continue }
      let (name, count) = ("\(step.tactic) \(step.name)", counts[launch.function])
      // Small loops that share a launch are limited by the time of the launch, not by a few words.
      let isShared = step.tactic == "loops" && step.name.contains(", ")
      let known = isShared ? 76 : Self.known.first { name.hasPrefix($0.step) }?.byteCount ?? 0
      if count > known { found.insert("\(name): \(count) bytes") }
    }
    return found.sorted()
  }

  /// Kernels that may spill so many bytes: generated loops that compute functions of many registers for several neighbours at
  /// once, and operations whose threads hold many values. None is a product, a convolution or an attention.
  private static let known: [(step: String, byteCount: Int)] = [
    ("loops asin", 8), ("loops atan", 76), ("loops softmax", 16), ("recurrent", 24), ("digits", 12), ("fourier", 12),
    ("boxes", 8), ("choose", 4),
  ]
}
