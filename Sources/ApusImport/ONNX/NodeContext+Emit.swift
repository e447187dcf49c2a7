import ApusCore
import ApusGraph
import ApusOps

/// Making operations: the vocabulary in which the family tables are written.
extension NodeContext {
  /// Adds an operation and gives all its results.
  ///
  /// A pure operation on small constants is computed at once.
  func emitAll(_ name: String, _ attributes: Attributes = [:], _ inputs: [ValueID]) throws(ImportError) -> [ValueID] {
    let op: any Operation
    let attributes = name == "sizes" ? attributes : try settled(attributes)
    do { op = try session.options.catalogue.make(name, attributes) } catch {
      if error.problems.first?.code == "APUS-G-0011" { throw .unsupported("it needs the operation '\(name)'") }
      throw ImportError(problems: error.problems)
    }
    return try add(op, inputs)
  }

  /// Attributes in which every long size is replaced by a symbol that is set to its value while running.
  private func settled(_ attributes: Attributes) throws(ImportError) -> Attributes {
    var settled: [(String, Attribute)] = []
    for entry in attributes.entries {
      guard case .dims(var dims) = entry.value else {
        settled.append((entry.name, entry.value))
        continue
      }
      for (index, dim) in dims.enumerated() { dims[index] = try self.settled(dim, "\(entry.name)_\(index)") }
      settled.append((entry.name, .dims(dims)))
    }
    return Attributes(settled)
  }

  /// A size, or when it is long a symbol that is set to its value while running.
  func settled(_ dim: Dim, _ stem: String) throws(ImportError) -> Dim {
    guard isLong(dim) else { return dim }
    let size = Dim(freshSymbol(stem, dim.range))
    _ = try emitAll("bind_dims", ["dims": .dims([size])], [emit("sizes", ["dims": .dims([dim])])])
    return size
  }

  /// Sizes that are known before running may be longer: one that is set while running has no place in the arena.
  private func isLong(_ dim: Dim) -> Bool {
    dim.partCount(upTo: 2) > 2
      && (dim.partCount(upTo: 64) > 64 || dim.symbols.contains { session.symbols.late.contains($0.name) })
  }

  /// Adds an operation that has been made.
  func add(_ op: any Operation, _ inputs: [ValueID]) throws(ImportError) -> [ValueID] {
    do {
      if let constants = try folded(op, inputs) { return constants.map { builder.graph.addConstant($0) } }
      let path = scope.path + (node.name.isEmpty ? node.output.first { !$0.isEmpty } ?? node.opType : node.name)
      let results = try builder.graph.add(op, inputs, name: path)
      session.symbols.late.formUnion(op.boundSymbols.map(\.name))
      followSizes(op, inputs, results)
      return results.map(constantIfKnown)
    } catch let error as any RoomError {
      throw ImportError(problems: error.problems)
    } catch { throw ImportError("APUS-I-0013", "\(error)") }
  }

  /// Adds an operation that has one result.
  func emit(_ name: String, _ attributes: Attributes, _ inputs: ValueID...) throws(ImportError) -> ValueID {
    try first(emitAll(name, attributes, inputs), name)
  }

  /// Adds an operation without attributes that has one result.
  func callAsFunction(_ name: String, _ inputs: ValueID...) throws(ImportError) -> ValueID {
    try first(emitAll(name, [:], inputs), name)
  }

  private func first(_ results: [ValueID], _ name: String) throws(ImportError) -> ValueID {
    guard let result = results.first else { throw ImportError("APUS-I-0013", "'\(name)' has no result") }
    return result
  }

  /// Largest number of elements, of operands and results together, that is computed when the model is read.
  private static let foldLimit = 4096

  /// Most arithmetic that is done when the model is read, for one operation.
  private static let foldWorkLimit = 1 << 22

  private func folded(_ op: any Operation, _ inputs: [ValueID]) throws(ShapeError) -> [HostTensor]? {
    guard op.isPure, op.boundSymbols.isEmpty, op.bodies.isEmpty, !inputs.isEmpty else { return nil }
    var operands: [HostTensor] = []
    var count = 0
    for id in inputs {
      guard let tensor = constant(id) else { return nil }
      operands.append(tensor)
      count = saturatingAdd(count, tensor.elementCount)
    }
    let operandTypes = operands.map { ValueType.tensor($0.type) }
    let resultTypes = try op.infer(operandTypes)
    if (op.work(operandTypes, resultTypes).constantValue ?? .max) > NodeContext.foldWorkLimit { return nil }
    for type in resultTypes {
      guard let sizes = type.tensor?.constantShape else { return nil }
      count = saturatingAdd(count, sizes.reduce(1, saturatingMultiply))
    }
    if count > NodeContext.foldLimit { return nil }
    guard let results = try? op.reference(operands.map { .tensor($0) }) else { return nil }
    let tensors = results.compactMap(\.tensor)
    return tensors.count == results.count ? tensors : nil
  }

  /// Keeps track of sizes through floats: sizes that are cast, scaled, rounded and cast back are sizes again.
  private func followSizes(_ op: any Operation, _ inputs: [ValueID], _ results: [ValueID]) {
    guard results.count == 1, let type = builder.graph.type(results[0]).tensor, type.rank <= 1,
      let fractions = Fraction.follow(op.name, inputs, builder),
      fractions.allSatisfy({ $0.numerator.isManageable && $0.denominator.isManageable })
    else { return }
    if type.dtype.isFloat {
      builder.fractions[results[0]] = fractions
    } else if type.dtype == .i64 || type.dtype == .i32, builder.graph[results[0]].dims == nil {
      // A cast from floats truncates.
      let dims = fractions.map(\.floor)
      if dims.allSatisfy({ $0.range.lower >= 0 }) { builder.graph[results[0]].dims = dims }
    }
  }

  /// A constant in place of an integer tensor whose elements are all known.
  private func constantIfKnown(_ id: ValueID) -> ValueID {
    let value = builder.graph[id]
    guard let dims = value.dims, let type = value.type.tensor, let sizes = type.constantShape else { return id }
    let elements = dims.compactMap { $0.constantValue.map { Int64($0) } }
    guard elements.count == dims.count, elements.count == sizes.reduce(1, saturatingMultiply) else { return id }
    return builder.graph.addConstant(HostTensor(type.dtype, sizes, int64s: elements))
  }

  // MARK: Constants

  /// A rank-0 constant.
  func scalar(_ value: Double, _ dtype: DType) -> ValueID { builder.scalar(value, dtype) }

  /// A rank-0 constant of the same element type as `id`.
  func scalar(_ value: Double, like id: ValueID) throws(ImportError) -> ValueID {
    builder.scalar(value, try dtype(id))
  }

  func constant(_ tensor: HostTensor) -> ValueID { builder.graph.addConstant(tensor) }

  /// A rank-1 constant of floats in the element type given.
  func vector(_ values: [Double], _ dtype: DType) -> ValueID {
    constant(HostTensor(dtype, [values.count], doubles: values))
  }

  /// The value of one size, as a tensor of rank 0.
  func value(of dim: Dim, _ dtype: DType) throws(ImportError) -> ValueID {
    if let value = dim.constantValue { return constant(HostTensor(dtype, [], int64s: [Int64(value)])) }
    return try cast(reshape(emit("sizes", ["dims": .dims([dim])]), []), dtype)
  }

  // MARK: Movement

  func cast(_ x: ValueID, _ dtype: DType, saturate: Bool = true) throws(ImportError) -> ValueID {
    if try self.dtype(x) == dtype { return x }
    return try emit("cast", ["to": .dtype(dtype), "saturate": .bool(saturate)], x)
  }

  func reshape(_ x: ValueID, _ shape: Shape) throws(ImportError) -> ValueID {
    if try self.shape(x) == shape { return x }
    return try emit("reshape", ["shape": .dims(shape)], x)
  }

  func broadcast(_ x: ValueID, _ shape: Shape) throws(ImportError) -> ValueID {
    if try self.shape(x) == shape { return x }
    return try emit("broadcast_to", ["shape": .dims(shape)], x)
  }

  func transpose(_ x: ValueID, _ permutation: [Int]) throws(ImportError) -> ValueID {
    if permutation == Array(permutation.indices) { return x }
    return try emit("transpose", ["perm": .ints(permutation)], x)
  }

  /// `x` with a dim of 1 put at each of `axes`, which count in the result.
  func unsqueeze(_ x: ValueID, _ axes: [Int]) throws(ImportError) -> ValueID {
    var shape = try shape(x)
    for axis in try normalized(axes: axes, rank: shape.count + axes.count) { shape.insert(1, at: axis) }
    return try reshape(x, shape)
  }

  /// `x` without the dims at `axes`.
  func squeeze(_ x: ValueID, _ axes: [Int]) throws(ImportError) -> ValueID {
    var shape = try shape(x)
    for axis in try normalized(axes: axes, rank: shape.count).reversed() {
      if let size = shape[axis].constantValue, size != 1 {
        throw ImportError("APUS-I-0013", "dim \(axis) is \(size): only dims of 1 can be squeezed away")
      }
      shape.remove(at: axis)
    }
    return try reshape(x, shape)
  }

  /// The part of `x` along one axis.
  func slice(_ x: ValueID, axis: Int, start: Dim, size: Dim, step: Int = 1) throws(ImportError) -> ValueID {
    var sizes = try shape(x)
    let axis = try normalized(axis, rank: sizes.count)
    if start == 0, step == 1, sizes[axis] == size { return x }
    var starts = [Dim](repeating: 0, count: sizes.count)
    var steps = [Int](repeating: 1, count: sizes.count)
    sizes[axis] = size
    starts[axis] = start
    steps[axis] = step
    return try emit("slice", ["starts": .dims(starts), "sizes": .dims(sizes), "steps": .ints(steps)], x)
  }

  func concat(_ parts: [ValueID], axis: Int) throws(ImportError) -> ValueID {
    if parts.count == 1 { return parts[0] }
    return try first(emitAll("concat", ["axis": .int(axis)], parts), "concat")
  }

  /// `x` extended at both ends of every axis; amounts must not be negative.
  func pad(_ x: ValueID, before: [Dim], after: [Dim], value: ValueID? = nil, mode: String = "constant")
    throws(ImportError) -> ValueID
  {
    if (before + after).allSatisfy({ $0 == 0 }) { return x }
    let attributes: Attributes = ["before": .dims(before), "after": .dims(after), "mode": .string(mode)]
    if mode != "constant" { return try emit("pad", attributes, x) }
    let zero = try scalar(0, like: x)
    return try emit("pad", attributes, x, value ?? zero)
  }

  /// The coordinate along `axis` at every position of `shape`.
  func iota(_ shape: Shape, axis: Int, _ dtype: DType) throws(ImportError) -> ValueID {
    try emit("iota", ["shape": .dims(shape), "axis": .int(axis), "dtype": .dtype(dtype)])
  }

  func gather(_ x: ValueID, _ indices: ValueID, axis: Int) throws(ImportError) -> ValueID {
    try emit("gather", ["axis": .int(axis)], x, indices)
  }

  func select(_ condition: ValueID, _ x: ValueID, _ y: ValueID) throws(ImportError) -> ValueID {
    try emit("where", [:], condition, x, y)
  }

  // MARK: Reductions

  /// `reduce_<kind>` over sorted axes.
  func reduce(_ kind: String, _ x: ValueID, _ axes: [Int], keepDims: Bool) throws(ImportError) -> ValueID {
    if axes.isEmpty { return x }
    return try emit("reduce_\(kind)", ["axes": .ints(axes), "keep_dims": .bool(keepDims)], x)
  }

  /// The shape that operands broadcast to.
  func broadcastShape(_ shapes: [Shape]) throws(ImportError) -> Shape {
    var result = shapes.first ?? []
    for shape in shapes.dropFirst() {
      guard let wider = Broadcasting.shape(result, shape) else {
        throw ImportError("APUS-I-0013", "shapes \(result) and \(shape) do not broadcast")
      }
      result = wider
    }
    return result
  }
}
