package import ApusCore
package import ApusPlan
package import ApusRuntime
import Synchronization

/// A device whose memory the host cannot touch: that of another device, at addresses that no host memory has.
///
/// Whoever reads or writes them on the host crashes, so that runs show whether everything goes through the stream.
package final class RemoteDevice: Device {
  package let name: String
  private let inner: any Device
  private let allocated = Mutex((now: 0, peak: 0))

  package init(_ inner: any Device) {
    self.inner = inner
    name = "remote \(inner.name)"
  }

  package let sharesHostMemory = false
  package var memoryByteCount: Int { inner.memoryByteCount }
  package var scratchCount: Int { inner.scratchCount }

  /// Not canonical on any processor of 64 bits.
  private static let distance = 1 << 56

  fileprivate static func inner(_ address: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer { address - distance }
  fileprivate static func inner(_ address: UnsafeRawPointer) -> UnsafeRawPointer { address - distance }

  package var identity: DeviceIdentity { inner.identity }

  package func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    try inner.suitability(of: fingerprint)
  }

  package func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    let buffer = try inner.allocate(byteCount: byteCount)
    allocated.withLock { $0 = ($0.now + byteCount, max($0.peak, $0.now + byteCount)) }
    return DeviceBuffer(base: buffer.base + Self.distance, byteCount: buffer.byteCount) { [self] _ in
      withExtendedLifetime(buffer) { allocated.withLock { $0.now -= byteCount } }
    }
  }

  package var memoryUse: DeviceMemoryUse? {
    allocated.withLock { DeviceMemoryUse(peakByteCount: $0.peak, byteCount: $0.now, driverByteCount: 0) }
  }

  package func resetMemoryPeak() { allocated.withLock { $0.peak = $0.now } }

  package func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? {
    let buffer = try allocate(byteCount: constants.count)
    if let source = constants.baseAddress {
      Self.inner(buffer.base).copyMemory(from: source, byteCount: constants.count)
    }
    return buffer
  }

  package func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try inner.load(image) }

  package func version(of library: Library) throws(DeviceError) -> Int { try inner.version(of: library) }

  package func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall {
    try inner.prepare(call, sizes: sizes, workspaceByteCount: workspaceByteCount)
  }

  package func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    RemoteStream(try inner.makeStream(priority: priority))
  }
}

/// Launches and copies to be done again.
private final class Recording: CapturedWork {
  var work: [() -> Void] = []
}

private final class RemoteStream: DeviceStream {
  private let inner: any DeviceStream
  private var recording: Recording?

  init(_ inner: any DeviceStream) { self.inner = inner }

  let canCapture = true

  func beginCapture() { recording = Recording() }

  func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork {
    defer { recording = nil }
    return recording ?? Recording()
  }

  func launch(_ work: any CapturedWork) { (work as? Recording)?.work.forEach { $0() } }

  func launch(_ launch: DeviceLaunch) {
    let buffers = (0..<launch.bufferCount).map { index in launch.buffers[index].map { RemoteDevice.inner($0) } }
    let parameters = (0..<launch.parameterCount).map { launch.parameters[$0] } + [0]
    let run = { [inner] in
      var launch = launch
      launch.scratch = launch.scratch.map { RemoteDevice.inner($0) }
      buffers.withUnsafeBufferPointer { buffers in
        parameters.withUnsafeBufferPointer { parameters in
          guard let addresses = buffers.baseAddress, let numbers = parameters.baseAddress else { return }
          launch.buffers = addresses
          launch.parameters = numbers
          inner.launch(launch)
        }
      }
    }
    if let recording { recording.work.append(run) } else { run() }
  }

  func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    let buffers = buffers.map { $0.map { RemoteDevice.inner($0) } }
    let run = { [inner] in buffers.withUnsafeBufferPointer { inner.call(call, buffers: $0) } }
    if let recording { recording.work.append(run) } else { run() }
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    if let recording {
      recording.work.append { [inner] in
        inner.copy(from: RemoteDevice.inner(source), to: RemoteDevice.inner(target), byteCount: byteCount)
      }
      return
    }
    inner.copy(from: RemoteDevice.inner(source), to: RemoteDevice.inner(target), byteCount: byteCount)
  }

  func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.upload(from: source, to: RemoteDevice.inner(target), byteCount: byteCount)
  }

  func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.download(from: RemoteDevice.inner(source), to: target, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    inner.fill(RemoteDevice.inner(target), with: byte, byteCount: byteCount)
  }

  func synchronize() throws(DeviceError) { try inner.synchronize() }
}
