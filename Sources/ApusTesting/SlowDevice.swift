package import ApusCore
package import ApusPlan
package import ApusRuntime

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A device that works like another, and takes its time for each launch.
package final class SlowDevice: Device {
  package let name: String
  private let inner: any Device
  private let delay: Duration

  package init(_ inner: any Device, delay: Duration) {
    self.inner = inner
    self.delay = delay
    name = "slow \(inner.name)"
  }

  package var sharesHostMemory: Bool { inner.sharesHostMemory }
  package var memoryByteCount: Int { inner.memoryByteCount }
  package var scratchCount: Int { inner.scratchCount }
  package var identity: DeviceIdentity { inner.identity }

  package func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    try inner.suitability(of: fingerprint)
  }

  package func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer { try inner.allocate(byteCount: byteCount) }

  package func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? {
    try inner.place(constants: constants)
  }

  package func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try inner.load(image) }

  package func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    SlowStream(try inner.makeStream(priority: priority), delay)
  }
}

private final class SlowStream: DeviceStream {
  private let inner: any DeviceStream
  private let microseconds: UInt32

  init(_ inner: any DeviceStream, _ delay: Duration) {
    self.inner = inner
    microseconds = UInt32(clamping: Int(delay / .microseconds(1)))
  }

  func launch(_ launch: DeviceLaunch) {
    usleep(microseconds)
    inner.launch(launch)
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.copy(from: source, to: target, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    inner.fill(target, with: byte, byteCount: byteCount)
  }

  func synchronize() throws(DeviceError) { try inner.synchronize() }
}
