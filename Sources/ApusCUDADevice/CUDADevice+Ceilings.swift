public import ApusCore
public import ApusRuntime

extension CUDADevice {
  /// What the clock and the units of the GPU allow, and what copies within its memory were measured to move.
  public func ceilings() throws(DeviceError) -> DeviceCeilings? {
    let clocks = Double(processor.clockMegahertz) * 1e6 * Double(processor.multiprocessorCount)
    // Operations of a multiprocessor in a clock: by ordinary units, and by tensor cores on 16-bit elements.
    let (plain, tensor) =
      switch (processor.major, processor.minor) {
      case (10..., _): (256.0, 8192.0)
      case (9, _): (256.0, 4096.0)
      case (8, 0): (128.0, 2048.0)
      case (8, _): (256.0, 1024.0)
      default: (128.0, 1024.0)
      }
    return DeviceCeilings(
      operationsPerSecond: [.f32: plain * clocks, .f16: tensor * clocks, .bf16: tensor * clocks],
      bytesPerSecond: try measuredCopyRate(), launchSeconds: 2e-6, isComputeMeasured: false)
  }
}
