import ApusCore
import ApusGraph
import ApusPlan

/// Values that lie in the result of a concatenation in place of memory of their own, so that nothing copies them there.
extension Fuser {
  /// Where a value lies in the result of a concatenation.
  struct Home {
    let result: ValueID
    let byteOffset: Dim
  }

  /// The axis of a concatenation whose operands are written into their parts of the result.
  func axisOfParts(_ node: Node) -> Int? {
    guard node.op.name == "concat", let result = node.outputs.first, let axis = try? node.op.attributes.int("axis"),
      node.inputs.count > 1, graph.tensorType(result).elementCount.estimate > target.launchElements
    else { return nil }
    return axis < 0 ? axis + graph.tensorType(result).rank : axis
  }

  /// Homes of operands that are one run of bytes in the result, and begin where memory of their own could.
  func findHomes(_ builder: StepBuilder) -> [ValueID: Home] {
    var homes: [ValueID: Home] = [:]
    for id in graph.order {
      let node = graph[id]
      guard let axis = axisOfParts(node), let result = node.outputs.first else { continue }
      let type = graph.tensorType(result)
      let isOneRun = type.shape[..<axis].allSatisfy { $0 == 1 }
      let isKnown = !type.shape.contains { $0.symbols.contains { builder.isRunSymbol($0) } }
      guard isOneRun, isKnown, type.dtype != .string else { continue }
      var offset: Dim = 0
      for input in node.inputs {
        let home = Home(result: result, byteOffset: offset)
        offset = offset + graph.tensorType(input).byteCount
        guard home.byteOffset.dividedExactly(by: Dim(ConstantPool.alignment)) != nil else { continue }
        for value in sameBytes(as: input) where homes[value] == nil && !outputs.contains(value) {
          homes[value] = home
        }
      }
    }
    return homes
  }

  /// A value and those that it is the same elements of in another shape, up to one that is computed.
  private func sameBytes(as value: ValueID) -> [ValueID] {
    var found: [ValueID] = []
    var next: ValueID? = value
    while let value = next, let producer = graph.producer(value).map({ graph[$0] }) {
      found.append(value)
      next = producer.op.isView ? producer.inputs.first : nil
    }
    return found
  }

  /// Makes room for a value that a step is about to compute.
  mutating func allocate(_ value: ValueID, _ builder: inout StepBuilder) -> Int {
    guard let home = homes[value], !builder.isPlaced(value) else { return builder.allocate(value) }
    return builder.place(value, inside: allocate(home.result, &builder), byteOffset: home.byteOffset)
  }

  /// Whether an operand of a concatenation has been stored in its part of the result.
  func isAtHome(_ operand: ValueID, in result: ValueID, byteOffset: Dim, _ builder: StepBuilder) -> Bool {
    sameBytes(as: operand).contains { value in
      guard let home = homes[value], home.result == result, home.byteOffset == byteOffset else { return false }
      return builder.lies(value, in: result, byteOffset: byteOffset)
    }
  }
}
