package import ApusCore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A folder of the ONNX backend tests: `model.onnx` and `test_data_set_K/{input,output}_J.pb`.
package struct ConformanceCase: Sendable {
  package struct DataSet: Sendable {
    package var inputs: [String]
    package var outputs: [String]
  }

  package var name: String
  package var modelPath: String
  package var dataSets: [DataSet]
  package var tolerance: Tolerance

  /// Reads what the folder holds, but not the files.
  ///
  /// - Throws: ``ConformanceError`` `APUS-T-0001` when there is no model or no data set.
  package init(folder: String) throws(ConformanceError) {
    name = String(folder.split(separator: "/").last ?? "")
    modelPath = folder + "/model.onnx"
    guard Directory.isFile(modelPath) else {
      throw ConformanceError("APUS-T-0001", "the case has no model.onnx", place: folder)
    }
    dataSets = []
    while Directory.isFolder("\(folder)/test_data_set_\(dataSets.count)") {
      let place = "\(folder)/test_data_set_\(dataSets.count)"
      dataSets.append(
        DataSet(inputs: Self.numbered("\(place)/input_"), outputs: Self.numbered("\(place)/output_")))
    }
    if dataSets.isEmpty { throw ConformanceError("APUS-T-0001", "the case has no test_data_set_0", place: folder) }
    tolerance = Self.tolerance(folder + "/case.json")
  }

  /// All cases in a folder whose name matches the glob and not the excluded one, by name; the folder may itself be a case.
  ///
  /// - Throws: ``ConformanceError`` `APUS-T-0002` when there is none.
  package static func find(
    in folder: String, matching glob: String, except excluded: String? = nil
  ) throws(ConformanceError) -> [String] {
    if Directory.isFile(folder + "/model.onnx") { return [folder] }
    let names = Directory.contents(folder).filter { Directory.isFile("\(folder)/\($0)/model.onnx") }
    let matching = names.filter { name in
      fnmatch(glob, name, 0) == 0 && !(excluded.map { fnmatch($0, name, 0) == 0 } ?? false)
    }.sorted()
    if matching.isEmpty {
      throw ConformanceError(
        "APUS-T-0002",
        names.isEmpty ? "no folder here holds a model.onnx" : "none of \(names.count) cases is '\(glob)'",
        place: folder, hint: "A case is a folder CASE with CASE/model.onnx and CASE/test_data_set_0.")
    }
    return matching.map { "\(folder)/\($0)" }
  }

  private static func numbered(_ prefix: String) -> [String] {
    var paths: [String] = []
    while Directory.isFile("\(prefix)\(paths.count).pb") { paths.append("\(prefix)\(paths.count).pb") }
    return paths
  }

  private struct Settings: Decodable {
    var rtol: Double?
    var atol: Double?
  }

  private static func tolerance(_ path: String) -> Tolerance {
    var tolerance = Tolerance.conformance
    guard let file = try? MappedFile(path: path),
      let settings = try? JSONDecoder().decode(Settings.self, from: Data(Array(file.bytes)))
    else { return tolerance }
    if let relative = settings.rtol { tolerance.relative = relative }
    if let absolute = settings.atol { tolerance.absolute = absolute }
    return tolerance
  }
}

/// A folder of conformance cases is not what it should be (`APUS-T-…`).
package struct ConformanceError: RoomError {
  package let problems: [Diagnostic]
  package init(problems: [Diagnostic]) { self.problems = problems }
}

/// Looks at folders.
package enum Directory {
  package static func contents(_ path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  package static func isFile(_ path: String) -> Bool { kind(path) == S_IFREG }
  package static func isFolder(_ path: String) -> Bool { kind(path) == S_IFDIR }

  private static func kind(_ path: String) -> mode_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & S_IFMT : 0
  }
}
