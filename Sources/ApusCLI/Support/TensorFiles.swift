import Apus
import ApusCore
import ApusImport

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Tensors in files, as the command line names them.
enum TensorFiles {
  /// Reads `NAME=FILE` arguments for the inputs they name.
  ///
  /// FILE is a `.npy`, a `.pb` (an ONNX tensor, sequence or optional), or a `.npz` of which the tensor called as the input
  /// is taken, or another that `FILE.npz:KEY` names.
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0006` form, `-0002` unknown input, `-0003` given twice, and
  ///   what is wrong with the files.
  static func inputs(
    _ arguments: [String], of inputs: [(name: String, type: ValueType)]
  ) throws(UsageError) -> [String: HostValue] {
    var problems = UsageProblems()
    var values: [String: HostValue] = [:]
    for argument in arguments {
      let place = "--input \(argument)"
      guard let (name, file) = split(argument, inputs.map(\.name)) else {
        problems.add(
          "APUS-C-0006", "an input is written NAME=FILE, FILE ending in .npy, .npz, .npz:KEY or .pb", place: place,
          hint: "For instance --input images=photo.npy.")
        continue
      }
      guard let input = inputs.first(where: { $0.name == name }) else {
        problems.add(
          "APUS-C-0002", "the model has no input '\(name)'", place: place,
          hint: Spelling.hint(for: name, in: inputs.map(\.name)))
        continue
      }
      if values[name] != nil { problems.add("APUS-C-0003", "input '\(name)' is given twice", place: place) }
      do { values[name] = try read(file, name: name, type: input.type) } catch {
        for problem in error.problems { problems.add(problem) }
      }
    }
    try problems.throwIfAny()
    return values
  }

  /// The name ends at the first `=` after which it is an input's, as names and paths may hold one; else at the first.
  private static func split(_ argument: String, _ names: [String]) -> (name: String, file: String)? {
    let splits = argument.indices.filter { argument[$0] == "=" && $0 != argument.startIndex }
      .map { (name: String(argument[..<$0]), file: String(argument[argument.index(after: $0)...])) }
      .filter { isTensorFile($0.file) }
    return splits.first { names.contains($0.name) } ?? splits.first
  }

  private static func isTensorFile(_ file: String) -> Bool {
    file.hasSuffix(".npy") || file.hasSuffix(".npz") || file.hasSuffix(".pb") || file.contains(".npz:")
  }

  private static func read(_ file: String, name: String, type: ValueType) throws(UsageError) -> HostValue {
    do throws(NumPyError) {
      let expected = type.tensor?.dtype
      if file.hasSuffix(".npy") { return .tensor(try NumPyFile.read(file, expecting: expected)) }
      if let split = file.firstRange(of: ".npz:") {
        let archive = try NumPyArchive(contentsOf: String(file[..<split.upperBound].dropLast()))
        return .tensor(try archive.read(String(file[split.upperBound...]), expecting: expected))
      }
      if file.hasSuffix(".npz") {
        return .tensor(try NumPyArchive(contentsOf: file).read(name, expecting: expected))
      }
    } catch { throw UsageError(problems: error.problems) }
    do { return try HostValue(onnxFile: file, type: type) } catch { throw UsageError(problems: error.problems) }
  }

  // MARK: Outputs

  /// File names without suffix for tensors of these names: what a file name cannot hold on some system becomes `_`, and
  /// names that become equal get a number.
  static func fileNames(_ names: [String]) -> [String] {
    var used: Set<String> = []
    return names.map { name in
      let safe = String(name.map { $0.isLetter || $0.isNumber || "._-".contains($0) ? $0 : "_" })
      var candidate = safe.isEmpty ? "_" : safe
      var number = 1
      while !used.insert(candidate).inserted {
        candidate = "\(safe)_\(number)"
        number += 1
      }
      return candidate
    }
  }

  /// Makes a folder, and those above it, where there is none.
  static func makeFolder(_ path: String) throws(UsageError) {
    var position = path.startIndex
    while position < path.endIndex {
      let end = path[path.index(after: position)...].firstIndex(of: "/") ?? path.endIndex
      let part = String(path[..<end])
      if mkdir(part, 0o777) != 0, errno != EEXIST {
        let reason = String(cString: strerror(errno))
        throw UsageError("APUS-C-0021", "cannot make the folder '\(part)': \(reason)", place: "--output-dir \(path)")
      }
      position = end
    }
  }
}
