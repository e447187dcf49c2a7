import ApusCore
import ApusPlan
import ApusRuntime
import CApusHost

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A shared object loaded from memory.
final class CPUImage: DeviceImage, @unchecked Sendable {
  private let library: UnsafeMutableRawPointer
  /// Kept open while the library is loaded: the loader tells libraries apart by the path, which holds the number.
  private let descriptor: Int32

  init(_ image: KernelImage) throws(DeviceError) {
    let descriptor = image.bytes.withUnsafeBytes { apus_memory_file($0.baseAddress, $0.count) }
    if descriptor < 0 {
      throw DeviceError(
        "APUS-D-0002", "no file for the code can be made: \(String(cString: strerror(-descriptor)))",
        place: "image '\(image.target)'")
    }
    guard let library = dlopen("/proc/self/fd/\(descriptor)", RTLD_NOW | RTLD_LOCAL) else {
      let reason = dlerror().map { String(cString: $0) } ?? "unknown reason"
      close(descriptor)
      throw DeviceError(
        "APUS-D-0002", "the code cannot be loaded: \(reason)", place: "image '\(image.target)'",
        hint: "Build the engine again for this machine.")
    }
    self.library = library
    self.descriptor = descriptor
  }

  deinit {
    dlclose(library)
    close(descriptor)
  }

  func function(_ function: KernelFunction) throws(DeviceError) -> DeviceFunction {
    guard let address = dlsym(library, function.symbol) else {
      throw DeviceError("APUS-D-0003", "the code has no function '\(function.symbol)'", hint: "Build the engine again.")
    }
    return DeviceFunction(handle: address)
  }
}
