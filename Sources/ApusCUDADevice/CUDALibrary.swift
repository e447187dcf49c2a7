import CApusCUDA

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A library of CUDA that is opened at run time under one of several names.
package struct CUDALibrary: Sendable {
  /// How a library tells its version.
  enum Version: Sendable {
    /// `size_t f(void)`, in thousands: 90100 or 130000 is 9.1.0 or 13.0.0.
    case result(String)
    /// `f(int *)`, likewise.
    case pointer(String)
    /// `f(int *major, int *minor)`.
    case pair(String)
    /// `f(int *)` with 1000·major + 10·minor.
    case driver(String)
    /// `f(int *)`, a number of its own.
    case plain(String)
  }

  package let title: String
  package let purpose: String
  package let names: [String]
  private let version: Version

  package static let driver = CUDALibrary(
    title: "CUDA driver", purpose: "runs kernels", names: ["libcuda.so.1", "libcuda.so"],
    version: .driver("cuDriverGetVersion"))

  package static let cublasLt = CUDALibrary(
    title: "cuBLASLt", purpose: "matrix products",
    names: ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"], version: .result("cublasLtGetVersion"))

  package static let cudnn = CUDALibrary(
    title: "cuDNN", purpose: "convolutions", names: ["libcudnn.so.9", "libcudnn.so"],
    version: .result("cudnnGetVersion"))

  package static let all = [
    driver,
    CUDALibrary(
      title: "NVRTC", purpose: "compiles kernels",
      names: (0...).lazy.map { apus_nvrtc_name($0) }.prefix { $0 != nil }.compactMap { $0.map { String(cString: $0) } },
      version: .pair("nvrtcVersion")),
    cublasLt,
    cudnn,
    CUDALibrary(
      title: "NCCL", purpose: "several GPUs", names: ["libnccl.so.2", "libnccl.so"], version: .pointer("ncclGetVersion")
    ),
    CUDALibrary(
      title: "CUPTI", purpose: "measures kernels", names: ["libcupti.so.13", "libcupti.so.12", "libcupti.so"],
      version: .plain("cuptiGetVersion")),
  ]

  /// Where the loader looks before the system's folders.
  package static var searchPath: String { getenv("LD_LIBRARY_PATH").map { String(cString: $0) } ?? "" }

  /// What came of looking for a library.
  package struct Finding: Sendable {
    package let library: CUDALibrary
    package let name: String?
    package let path: String?
    package let version: String?
    /// What the loader said about the first name, when none was found.
    package let reason: String
  }

  /// Opens the first name that the loader finds. The library stays open: some do not bear being closed.
  package func find() -> Finding {
    var reason = ""
    for name in names {
      if let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) {
        return Finding(library: self, name: name, path: Self.path(of: name), version: version.read(handle), reason: "")
      }
      if reason.isEmpty, let message = dlerror() { reason = String(cString: message) }
    }
    return Finding(library: self, name: nil, path: nil, version: nil, reason: reason)
  }

  /// The version in the library's own number; nil when it does not tell.
  func number(_ handle: UnsafeMutableRawPointer) -> Int? { version.number(handle) }

  /// The file that a loaded library was mapped from.
  private static func path(of name: String) -> String? {
    let stem = name.split(separator: ".").first.map(String.init) ?? name
    guard let file = fopen("/proc/self/maps", "r") else { return nil }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) >= 0, let text = line.map({ String(cString: $0) }) {
      guard let start = text.firstIndex(of: "/"), text.contains("/\(stem).") else { continue }
      return String(text[start...].prefix { !$0.isNewline })
    }
    return nil
  }
}

extension CUDALibrary.Version {
  fileprivate func number(_ handle: UnsafeMutableRawPointer) -> Int? {
    guard case .result(let name) = self else { return nil }
    return dlsym(handle, name).map { Int(apus_version_result($0)) }
  }

  fileprivate func read(_ handle: UnsafeMutableRawPointer) -> String? {
    func symbol(_ name: String) -> UnsafeMutableRawPointer? { dlsym(handle, name) }
    switch self {
    case .result(let name): return symbol(name).map { Self.text(Int(apus_version_result($0))) }
    case .pointer(let name): return symbol(name).map { Self.text(Int(apus_version_pointer($0))) }
    case .plain(let name): return symbol(name).map { String(apus_version_pointer($0)) }
    case .driver(let name):
      return symbol(name).map { function in
        let number = apus_version_pointer(function)
        return "\(number / 1000).\(number % 1000 / 10)"
      }
    case .pair(let name):
      return symbol(name).map { function in
        var (major, minor): (Int32, Int32) = (0, 0)
        apus_version_pair(function, &major, &minor)
        return "\(major).\(minor)"
      }
    }
  }

  /// `91400` is 9.14.0 and `130002` 13.0.2: two digits each for minor and patch.
  private static func text(_ number: Int) -> String { "\(number / 10000).\(number / 100 % 100).\(number % 100)" }
}
