import ApusCompiler

/// What steps take of a GPU of 132 multiprocessors, roughly: enough to tell branches that leave it idle from those that fill it.
struct CUDALaneModel: LaneModel {
  /// What a launch takes behind one of another stream beyond what it takes behind one that lets it start early. A fork and a join
  /// are two of these; the two together took 2.0 to 2.1 us on an H200 (ADR 0023 says why each counts 2).
  let crossing = 2.0
  /// Parts of whole networks gained 5 to 7 us less than predicted (ADR 0023).
  let leastGain = 8.0

  private static let processors = 132.0
  /// What a launch takes at least in a recorded run, and what products and convolutions take to fill their pipelines.
  private static let launch = 2.0
  private static let filling = 2.0
  /// Bytes a microsecond, of the memory and of one multiprocessor.
  private static let bandwidth = 3.3e6
  private static let ownBandwidth = 40e3

  func cost(of step: StepSize) -> StepCost {
    guard let blocks = step.blocks else {
      // What a library launches is not known: nothing runs beside it.
      return StepCost(
        microseconds: Self.launch + Self.filling + max(step.work / 4e8, step.traffic / Self.bandwidth), share: 1)
    }
    if blocks == 0 { return StepCost(microseconds: 0, share: 0) }
    let rate = Self.rate(step.tactic)
    let busy = min(Double(blocks), Self.processors)
    let rounds = (Double(blocks) / Self.processors).rounded(.up)
    let arithmetic = rounds * step.work / Double(blocks) / rate
    let memory = step.traffic / min(Self.bandwidth, busy * Self.ownBandwidth)
    let isTiled = step.tactic.contains("mma") || step.tactic.contains("simt")
    let time = Self.launch + (isTiled ? Self.filling : 0) + max(arithmetic, memory)
    // 64 registers a thread, and 227 KiB for the blocks of a multiprocessor.
    let resident = min(max(min(1024 / step.threads, (227 << 10) / (step.sharedByteCount + 1024)), 1), 16)
    let slots = Double(blocks) / (Self.processors * Double(resident))
    let units = step.work / (rate * Self.processors) / time
    return StepCost(microseconds: time, share: min(max(slots, units, step.traffic / Self.bandwidth / time), 1))
  }

  /// Arithmetic operations a microsecond of one multiprocessor, as kernels reach it.
  private static func rate(_ tactic: String) -> Double {
    if tactic.contains("wgmma") { return 3.4e6 }
    if tactic.contains("mma") { return 1.5e6 }
    return tactic.contains("simt") ? 0.25e6 : 0.15e6
  }
}
