import ApusCore
import ApusGraph
import ApusOps

/// Reads the types of a model's inputs, with what the user decides about them.
struct InputReader {
  let session: ImportSession

  /// Declares the graph's inputs and constants in `scope`; problems are reported to the session.
  func declareInputs(of proto: Onnx_GraphProto, in scope: NameScope) {
    let inputs = trueInputs(of: proto)
    for shape in session.options.shapes.values {
      for dim in shape { dim.symbols.forEach { session.symbols.reserve($0) } }
    }
    for dim in session.options.values.values.joined() { dim.symbols.forEach { session.symbols.reserve(element: $0) } }
    checkNames(inputs)
    let bindings = overriddenSymbols(inputs)
    for input in inputs {
      do {
        if let tensor = session.options.constants[input.name] {
          try fix(input, tensor, in: scope)
          continue
        }
        var type = try valueType(input.type, name: input.name, bindings: bindings)
        if let shape = session.options.shapes[input.name] { type = try override(type, shape) }
        let values = session.options.values[input.name]
        if let values { type = try self.type(type, holding: values.count) }
        let id = scope.builder.graph.addInput(input.name, type)
        scope.builder.graph[id].dims = values
        try scope.define(input.name, id)
      } catch {
        session.report(error.at("input '\(input.name)'"))
        scope.fail(input.name)
      }
    }
  }

  /// The inputs that are not given by an initializer.
  private func trueInputs(of proto: Onnx_GraphProto) -> [Onnx_ValueInfoProto] {
    let initializers = Set(proto.initializer.map(\.name)).union(proto.sparseInitializer.map(\.values.name))
    return proto.input.filter { !initializers.contains($0.name) }
  }

  /// Names and types of the inputs.
  func inputs(of proto: Onnx_GraphProto) throws(ImportError) -> [(name: String, type: ValueType)] {
    var inputs: [(name: String, type: ValueType)] = []
    for input in trueInputs(of: proto) {
      do { inputs.append((input.name, try valueType(input.type, name: input.name))) } catch {
        throw error.at("input '\(input.name)'")
      }
    }
    return inputs
  }

  private func checkNames(_ inputs: [Onnx_ValueInfoProto]) {
    let known = inputs.map(\.name)
    let options = session.options
    for name in options.shapes.keys.sorted() + options.values.keys.sorted() + options.constants.keys.sorted()
    where !known.contains(name) {
      session.report(
        Diagnostic(
          "APUS-I-0041", "the model has no input '\(name)'", hint: "Its inputs are \(known.joined(separator: ", ")).")
      )
    }
  }

  /// An input that the user gives a value for.
  private func fix(_ input: Onnx_ValueInfoProto, _ tensor: HostTensor, in scope: NameScope) throws(ImportError) {
    let declared = try valueType(input.type, name: input.name, bindings: [:])
    guard let type = declared.tensor, type.dtype == tensor.dtype, type.rank == tensor.rank else {
      throw ImportError("APUS-I-0041", "is \(declared), the value given for it is \(tensor.type)")
    }
    try scope.define(input.name, scope.builder.graph.addConstant(tensor, name: input.name))
  }

  // MARK: Overrides

  /// What the shapes given by the user say about the model's dimension names.
  private func overriddenSymbols(_ inputs: [Onnx_ValueInfoProto]) -> [Symbol: Dim] {
    var bindings: [Symbol: Dim] = [:]
    for input in inputs {
      guard let shape = session.options.shapes[input.name], case .tensorType(let tensor)? = input.type.value,
        tensor.hasShape, tensor.shape.dim.count == shape.count
      else { continue }
      for (declared, dim) in zip(tensor.shape.dim, shape) {
        guard case .dimParam(let name)? = declared.value, let symbol = session.symbols.symbol(named: name) else {
          continue
        }
        if let other = bindings[symbol], other != dim {
          session.report(
            Diagnostic(
              "APUS-I-0041", "the shapes given make dimension '\(name)' both \(other) and \(dim)",
              place: "input '\(input.name)'", hint: "The model uses one name for both, so they must be equal."))
        }
        bindings[symbol] = dim
      }
    }
    return bindings
  }

  private func override(_ type: ValueType, _ shape: Shape) throws(ImportError) -> ValueType {
    guard let tensor = type.tensor else { throw ImportError("APUS-I-0041", "is \(type): it takes no shape") }
    guard tensor.rank == shape.count else {
      throw ImportError("APUS-I-0041", "has rank \(tensor.rank), the shape given has rank \(shape.count)")
    }
    for (axis, (declared, given)) in zip(tensor.shape, shape).enumerated() {
      if let size = given.constantValue, size < 0 {
        throw ImportError("APUS-I-0041", "the size \(size) given for dim \(axis) is negative")
      }
      if let old = declared.constantValue, given.constantValue != old {
        let (low, high) = (given.range.lower, given.range.upper)
        throw ImportError(
          "APUS-I-0041",
          "dim \(axis) is \(old) in the model, the shape given says \(low == high ? "\(low)" : "\(low)…\(high)")",
          hint: "Only dynamic dims can be given another size.")
      }
    }
    return .tensor(tensor.with(shape: shape))
  }

  /// The type of an input of which a number of elements decide sizes.
  private func type(_ type: ValueType, holding count: Int) throws(ImportError) -> ValueType {
    guard let tensor = type.tensor, tensor.dtype.isInteger, tensor.rank <= 1 else {
      throw ImportError(
        "APUS-I-0042", "is \(type): only elements of an integer tensor of rank 0 or 1 can decide sizes")
    }
    if let size = tensor.elementCount.constantValue, size != count {
      throw ImportError("APUS-I-0042", "is \(type), \(count) values are given for it")
    }
    return .tensor(tensor.with(shape: tensor.rank == 0 ? [] : [Dim(count)]))
  }

  // MARK: Types

  /// The type that a file declares; symbols found in `bindings` are replaced. The elements of sequences and optionals
  /// may differ in size, so that only constant sizes are kept there.
  func valueType(
    _ proto: Onnx_TypeProto, name: String, bindings: [Symbol: Dim] = [:], isElement: Bool = false
  ) throws(ImportError) -> ValueType {
    switch proto.value {
    case .tensorType(let tensor)?:
      let dtype = try DType.onnx(Int(tensor.elemType))
      if isElement { return .tensor(TensorType(dtype, elementShape(tensor.shape))) }
      guard tensor.hasShape else {
        if let shape = session.options.shapes[name] { return .tensor(TensorType(dtype, shape)) }
        throw ImportError(
          "APUS-I-0040", "has no declared rank", hint: "Give its shape: --shape '\(name)=…'.")
      }
      return .tensor(TensorType(dtype, try shape(tensor.shape, name, bindings)))
    case .sequenceType(let sequence)?:
      return .sequence(try valueType(sequence.elemType, name: name, isElement: true))
    case .optionalType(let optional)?:
      return .optional(try valueType(optional.elemType, name: name, isElement: true))
    case .mapType?, .opaqueType?, .sparseTensorType?:
      throw ImportError("APUS-I-0040", "is a map, sparse or opaque value: these are not supported")
    case nil:
      throw ImportError("APUS-I-0040", "has no declared type")
    }
  }

  private func elementShape(_ proto: Onnx_TensorShapeProto) -> Shape {
    proto.dim.prefix(64).map { dim in
      if case .dimValue(let value)? = dim.value, value >= 0 { return Dim(Int(value)) }
      return ValueType.anySize
    }
  }

  private func shape(
    _ proto: Onnx_TensorShapeProto, _ name: String, _ bindings: [Symbol: Dim]
  ) throws(ImportError) -> Shape {
    if proto.dim.count > 64 { throw ImportError("APUS-I-0040", "has rank \(proto.dim.count), larger than 64") }
    return proto.dim.enumerated().map { axis, dim in
      switch dim.value {
      case .dimValue(let value)? where value >= 0: return Dim(Int(value))
      case .dimParam(let text)?:
        if let symbol = session.symbols.symbol(named: text) { return bindings[symbol] ?? Dim(symbol) }
      default: break
      }
      return Dim(session.symbols.fresh("\(name)_\(axis)"))
    }
  }
}
