import ApusCore
import ApusPlan

/// What a device makes of steps that run beside others.
package protocol LaneModel: Sendable {
  /// Microseconds by which a step starts later behind a step of another lane than behind one of its own.
  var crossing: Double { get }
  /// Microseconds that branches must be predicted to gain before they are spread: what predictions were seen to promise too much.
  var leastGain: Double { get }

  /// What a step takes when it has the device for itself.
  func cost(of step: StepSize) -> StepCost
}

/// How large a step is at the sizes that its profile is tuned for.
package struct StepSize: Sendable, Hashable {
  package var tactic: String
  /// Arithmetic operations, and bytes read and written.
  package var work: Double
  package var traffic: Double
  /// Blocks of a launch, the threads of each and the bytes that they share; nil where a library decides that, or nothing is launched.
  package var blocks: Int?
  package var threads: Int
  package var sharedByteCount: Int

  package init(
    tactic: String, work: Double, traffic: Double, blocks: Int?, threads: Int = 1, sharedByteCount: Int = 0
  ) {
    self.tactic = tactic
    self.work = work
    self.traffic = traffic
    self.blocks = blocks
    self.threads = threads
    self.sharedByteCount = sharedByteCount
  }

  /// - Parameter functions: what launches of the plan call.
  init(_ step: Step, _ functions: [KernelFunction]) {
    self.init(
      tactic: step.tactic, work: Double(max(step.work.estimate, 0)), traffic: Double(max(step.traffic.estimate, 0)),
      blocks: nil)
    guard case .launch(let launch) = step.action else { return }
    let function = functions[launch.function]
    (blocks, threads, sharedByteCount) = (max(launch.blocks.estimate, 0), function.threads, function.sharedByteCount)
  }
}

/// What a step takes of a device.
package struct StepCost: Sendable, Hashable {
  package var microseconds: Double
  /// How much of the device it keeps busy, of 1: steps that need more than there is together slow one another down.
  package var share: Double

  package init(microseconds: Double, share: Double) {
    self.microseconds = microseconds
    self.share = share
  }
}
