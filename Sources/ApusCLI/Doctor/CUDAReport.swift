import ApusCUDADevice
import ApusCore

/// What is there of CUDA.
struct CUDAReport {
  let libraries: [CUDALibrary.Finding]
  let processors: Result<[CUDADriver.Processor], DeviceError>

  static func find() -> CUDAReport {
    CUDAReport(
      libraries: CUDALibrary.all.map { $0.find() },
      processors: Result { () throws(DeviceError) in try CUDADriver.processors() })
  }

  var text: String {
    let path = CUDALibrary.searchPath
    return
      (libraries.map(\.text) + [
        "  searched: LD_LIBRARY_PATH (\(path.isEmpty ? "not set" : path)), then the system's library directories", "",
        "GPUs",
        processorText,
      ]).joined(separator: "\n")
  }

  private var processorText: String {
    switch processors {
    case .failure(let error): "  none: \(error.problems.map(\.message).joined(separator: "; "))"
    case .success(let found) where found.isEmpty: "  none: the driver lists none"
    case .success(let found): found.map(\.text).joined(separator: "\n")
    }
  }

  var json: (libraries: JSON, processors: JSON) {
    let found = (try? processors.get()) ?? []
    return (.array(libraries.map(\.json)), .array(found.map(\.json)))
  }
}

extension CUDADriver.Processor {
  var text: String {
    "  \(ordinal): \(name), compute capability \(major).\(minor), \(Units.bytes(memoryByteCount)), "
      + "\(multiprocessorCount) multiprocessors at up to \(clockMegahertz) MHz, L2 cache \(Units.bytes(l2ByteCount))"
  }

  var json: JSON {
    .object([
      ("ordinal", .int(ordinal)), ("name", .string(name)), ("compute_capability", .string("\(major).\(minor)")),
      ("memory_bytes", .int(memoryByteCount)), ("multiprocessors", .int(multiprocessorCount)),
      ("l2_bytes", .int(l2ByteCount)), ("clock_mhz", .int(clockMegahertz)),
    ])
  }
}

extension CUDALibrary.Finding {
  var text: String {
    if let name {
      return "  \(library.title) \(version ?? "of unknown version"): \(name) at \(path ?? "unknown place")"
    }
    let names = library.names.joined(separator: ", ")
    let detail = reason.hasSuffix("No such file or directory") ? "" : ": \(reason)"
    return "  \(library.title): not found (\(library.purpose)); tried \(names)\(detail)"
  }

  var json: JSON {
    .object([
      ("title", .string(library.title)), ("found", .bool(name != nil)), ("name", name.map { .string($0) } ?? .null),
      ("path", path.map { .string($0) } ?? .null), ("version", version.map { .string($0) } ?? .null),
      ("tried", .strings(library.names)), ("reason", .string(reason)),
    ])
  }
}
