import ApusCore
import ApusGraph
import ApusPlan
import ApusRuntime

/// Inputs of a run: those given as files, the others random.
struct InputValues {
  struct Entry {
    let name: String
    let value: HostValue
    /// Where the value comes from, in words.
    let source: String
  }

  let entries: [Entry]

  var values: [String: HostValue] { Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.value) }) }

  /// Reads the files and makes the rest.
  ///
  /// - Throws: ``UsageError`` with the mistakes of the arguments, or `APUS-C-0007` when a shape is not known and
  ///   `APUS-C-0009` when an input cannot be made up.
  init(files arguments: [String], seed: UInt64, session: Session) throws(UsageError) {
    try self.init(files: arguments, seed: seed, plan: session.plan, shapes: session.shapes)
  }

  /// The same for one plan of an engine.
  init(files arguments: [String], seed: UInt64, plan: Plan, shapes: [String: [Int]]) throws(UsageError) {
    let given = try TensorFiles.inputs(arguments, of: plan.inputTypes)
    var shapes = shapes
    var elements: [String: [Int]] = [:]
    for (name, value) in given {
      guard let tensor = value.tensor else { continue }
      shapes[name] = tensor.shape
      if plan.inputs.contains(where: { $0.name == name && $0.values != nil }) { elements[name] = tensor.ints }
    }
    let sizes = SymbolValues(plan: plan, shapes: shapes, elements: elements)
    var problems = UsageProblems()
    var entries: [Entry] = []
    for input in plan.inputs {
      if let value = given[input.name] {
        entries.append(Entry(name: input.name, value: value, source: "file"))
        continue
      }
      guard let type = input.type.tensor else {
        problems.add(
          "APUS-C-0009", "a \(input.type) cannot be made up", place: "input '\(input.name)'",
          hint: "Give a file: --input \(input.name)=FILE.pb.")
        continue
      }
      guard let shape = sizes.sizes(of: type) else {
        problems.add(SymbolValues.unknownShape(input.name, type))
        continue
      }
      guard shape.reduce(1, saturatingMultiply) < 1 << 36 else {
        problems.add("APUS-C-0009", "\(shape) is too large to be made up", place: "input '\(input.name)'")
        continue
      }
      if let elements = sizes.elements(of: input) {
        let tensor = HostTensor(type.dtype, shape, int64s: elements.map(Int64.init))
        entries.append(
          Entry(name: input.name, value: .tensor(tensor), source: "\(elements), what the profile is tuned for"))
        continue
      }
      let tensor = RandomTensor.make(
        type.dtype, shape, seed: RandomInput.seed(seed, for: input.name), range: RandomInput.range(of: type.dtype))
      let source = "random, \(RandomInput.description(of: type.dtype)), seed \(seed)"
      entries.append(Entry(name: input.name, value: .tensor(tensor), source: source))
    }
    try problems.throwIfAny()
    self.entries = entries
  }
}
