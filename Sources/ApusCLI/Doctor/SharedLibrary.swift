#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A library that is opened at run time under one of several names.
struct SharedLibrary {
  let title: String
  let purpose: String
  let names: [String]

  static let cuda = [
    SharedLibrary(title: "CUDA driver", purpose: "runs kernels", names: ["libcuda.so.1", "libcuda.so"]),
    SharedLibrary(
      title: "NVRTC", purpose: "compiles kernels", names: ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]),
    SharedLibrary(
      title: "cuBLASLt", purpose: "matrix products",
      names: ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"]),
    SharedLibrary(title: "cuDNN", purpose: "convolutions", names: ["libcudnn.so.9", "libcudnn.so"]),
    SharedLibrary(title: "NCCL", purpose: "several GPUs", names: ["libnccl.so.2", "libnccl.so"]),
    SharedLibrary(
      title: "CUPTI", purpose: "measures kernels", names: ["libcupti.so.13", "libcupti.so.12", "libcupti.so"]),
  ]

  static var searchPath: String { getenv("LD_LIBRARY_PATH").map { String(cString: $0) } ?? "" }

  struct Finding {
    let library: SharedLibrary
    let name: String?
    let path: String?
    /// What the loader said about the first name, when none was found.
    let reason: String
  }

  /// Opens the first name that the loader finds, and closes it again.
  func probe() -> Finding {
    var reason = ""
    for name in names {
      if let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) {
        let path = Self.loadedPath(name)
        dlclose(handle)
        return Finding(library: self, name: name, path: path, reason: "")
      }
      if reason.isEmpty, let message = dlerror() { reason = String(cString: message) }
    }
    return Finding(library: self, name: nil, path: nil, reason: reason)
  }

  private static func loadedPath(_ name: String) -> String? {
    let stem = name.split(separator: ".").first.map(String.init) ?? name
    return SystemFile.lines("/proc/self/maps").lazy
      .compactMap { line in line.firstIndex(of: "/").map { String(line[$0...]) } }
      .first { $0.contains("/\(stem).") }
  }
}

extension SharedLibrary.Finding {
  var text: String {
    if let name { return "  \(library.title): \(name) at \(path ?? "unknown place")" }
    let names = library.names.joined(separator: ", ")
    let detail = reason.hasSuffix("No such file or directory") ? "" : ": \(reason)"
    return "  \(library.title): not found (\(library.purpose)); tried \(names)\(detail)"
  }

  var json: JSON {
    .object([
      ("title", .string(library.title)), ("found", .bool(name != nil)),
      ("name", name.map { .string($0) } ?? .null), ("path", path.map { .string($0) } ?? .null),
      ("tried", .strings(library.names)), ("reason", .string(reason)),
    ])
  }
}
