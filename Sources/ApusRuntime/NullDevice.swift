public import ApusCore
public import ApusPlan
import Synchronization

/// A device that has memory but computes nothing: launches are counted and leave their buffers as they are.
///
/// It accepts every engine, so that plans can be bound, inspected and walked on any machine.
public final class NullDevice: Device {
  public let name = "null"
  public let identity = DeviceIdentity(target: "any", model: "null", driver: "", cacheByteCount: 0)
  public let memoryByteCount: Int
  public let scratchCount = 1
  public let sharesHostMemory = true
  private let launches = Atomic<Int>(0)

  public init(memoryByteCount: Int = .max) { self.memoryByteCount = memoryByteCount }

  /// Number of launches so far, of all streams.
  public var launchCount: Int { launches.load(ordering: .relaxed) }

  public func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int { 0 }

  public func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    guard byteCount >= 0, byteCount <= memoryByteCount, byteCount < 1 << 40 else {
      throw DeviceError("APUS-D-0001", "\(byteCount) bytes cannot be allocated")
    }
    let base = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 64), alignment: 64)
    return DeviceBuffer(base: base, byteCount: byteCount) { $0.deallocate() }
  }

  public func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? { nil }

  public func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { NullImage() }

  public func version(of library: Library) throws(DeviceError) -> Int { .max }

  public func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall { NullCall() }

  public func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream { NullStream(device: self) }

  fileprivate func countLaunch() { launches.add(1, ordering: .relaxed) }
}

private final class NullImage: DeviceImage {
  func function(_ function: KernelFunction) throws(DeviceError) -> DeviceFunction {
    DeviceFunction(handle: Unmanaged.passUnretained(self).toOpaque())
  }
}

private final class NullCall: DeviceCall {}

private final class NullStream: DeviceStream {
  private let device: NullDevice

  init(device: NullDevice) { self.device = device }

  func launch(_ launch: DeviceLaunch) { device.countLaunch() }

  func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) { device.countLaunch() }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    target.copyMemory(from: source, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    target.initializeMemory(as: UInt8.self, repeating: byte, count: byteCount)
  }

  func synchronize() throws(DeviceError) {}
}
