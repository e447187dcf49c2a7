package import ApusCore
package import ApusGraph

/// Sends every row through decision trees and combines the weights of the leaves it reaches.
///
/// - Shapes: x `[N, features]` → `[N, targets]`.
/// - Types: a float type.
/// - Numerics: a node compares x's feature with its split by its mode, or asks whether it is one of its members; NaN goes
///   the way `missing_true` says. Computed in f64.
/// - Source: ONNX-ML TreeEnsemble-5.
package struct TreeEnsemble: TensorOperation {
  package enum Mode: Int, Sendable {
    case lessEqual = 0
    case less, greaterEqual, greater, equal, notEqual, member
  }

  package enum Aggregate: String, CaseIterable, Sendable {
    case average, sum, min, max
  }

  package var aggregate = Aggregate.sum
  package var targets: Int
  package var roots: [Int]
  package var features: [Int]
  package var modes: [Int]
  package var splits: [Double]
  /// Next node, or leaf where the flag in ``trueLeaves`` says so.
  package var trueNodes: [Int]
  package var falseNodes: [Int]
  package var trueLeaves: [Int]
  package var falseLeaves: [Int]
  /// Whether NaN goes the true way; empty for nowhere.
  package var missingTrue: [Int]
  /// Members of all member nodes in order, each node's ended by NaN in the model; here as one list with their counts.
  package var members: [Double]
  package var memberCounts: [Int]
  package var leafTargets: [Int]
  package var leafWeights: [Double]

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    aggregate = try a.choice("aggregate")
    targets = try a.int("targets")
    roots = try a.ints("roots")
    features = try a.ints("features")
    modes = try a.ints("modes")
    splits = try a.floats("splits")
    trueNodes = try a.ints("true_nodes")
    falseNodes = try a.ints("false_nodes")
    trueLeaves = try a.ints("true_leaves")
    falseLeaves = try a.ints("false_leaves")
    missingTrue = try a.ints("missing_true")
    members = try a.floats("members")
    memberCounts = try a.ints("member_counts")
    leafTargets = try a.ints("leaf_targets")
    leafWeights = try a.floats("leaf_weights")
  }

  package var name: String { "tree_ensemble" }
  package var attributes: Attributes {
    [
      "aggregate": .string(aggregate.rawValue), "targets": .int(targets), "roots": .ints(roots),
      "features": .ints(features), "modes": .ints(modes), "splits": .floats(splits), "true_nodes": .ints(trueNodes),
      "false_nodes": .ints(falseNodes), "true_leaves": .ints(trueLeaves), "false_leaves": .ints(falseLeaves),
      "missing_true": .ints(missingTrue), "members": .floats(members), "member_counts": .ints(memberCounts),
      "leaf_targets": .ints(leafTargets), "leaf_weights": .floats(leafWeights),
    ]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectRank(x[0], 2...2, "x")
    try expectFloat(x[0], "x")
    let count = features.count
    let lists = [modes.count, splits.count, trueNodes.count, falseNodes.count, trueLeaves.count, falseLeaves.count]
    let isWhole =
      lists.allSatisfy { $0 == count } && leafTargets.count == leafWeights.count
      && (missingTrue.isEmpty || missingTrue.count == count)
    let isInside =
      leafTargets.allSatisfy { $0 >= 0 && $0 < targets } && roots.allSatisfy { $0 >= 0 && $0 < count }
      && zip(trueNodes, trueLeaves).allSatisfy(isTarget) && zip(falseNodes, falseLeaves).allSatisfy(isTarget)
      && modes.allSatisfy { Mode(rawValue: $0) != nil } && features.allSatisfy { $0 >= 0 }
    guard isWhole, isInside, targets > 0, targets < 1 << 28 else {
      throw shapeError("APUS-S-0206", "the lists that describe the trees do not fit together")
    }
    return [x[0].with(shape: [x[0].shape[0], Dim(targets)])]
  }

  private func isTarget(_ index: Int, _ isLeaf: Int) -> Bool {
    index >= 0 && index < (isLeaf != 0 ? leafWeights.count : features.count)
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let width = x[0].shape[1]
    guard features.allSatisfy({ $0 < width }) else {
      throw evaluationError("APUS-V-0201", "a node asks for a feature beyond the \(width) given")
    }
    let values = x[0].doubles
    let sets = memberSets()
    var result = [Double](repeating: start, count: shape.reduce(1, saturatingMultiply))
    for row in 0..<shape[0] {
      for root in roots {
        let leaf = try self.leaf(from: root, sets) { values[row * width + $0] }
        let target = row * targets + leafTargets[leaf]
        result[target] = combine(result[target], leafWeights[leaf])
      }
    }
    return [HostTensor(dtype, shape, doubles: result)]
  }

  private var start: Double {
    switch aggregate {
    case .average, .sum: 0
    case .min: Double(Float.greatestFiniteMagnitude)
    case .max: -Double(Float.greatestFiniteMagnitude)
    }
  }

  private func combine(_ sum: Double, _ weight: Double) -> Double {
    switch aggregate {
    case .sum: sum + weight
    case .average: sum + weight / Double(Swift.max(roots.count, 1))
    case .min: Swift.min(sum, weight)
    case .max: Swift.max(sum, weight)
    }
  }

  /// The members of each member node, in the order in which a walk of the trees meets these nodes.
  private func memberSets() -> [Int: Set<Double>] {
    var sets: [Int: Set<Double>] = [:]
    var (cursor, next) = (0, 0)
    var pending = Array(roots.reversed())
    var seen: Set<Int> = []
    while let node = pending.popLast() {
      if !seen.insert(node).inserted { continue }
      if modes[node] == Mode.member.rawValue, next < memberCounts.count {
        let count = Swift.min(Swift.max(memberCounts[next], 0), members.count - cursor)
        sets[node] = Set(members[cursor..<cursor + count])
        cursor += count
        next += 1
      }
      if falseLeaves[node] == 0 { pending.append(falseNodes[node]) }
      if trueLeaves[node] == 0 { pending.append(trueNodes[node]) }
    }
    return sets
  }

  private func leaf(
    from root: Int, _ sets: [Int: Set<Double>], _ feature: (Int) -> Double
  ) throws(EvaluationError) -> Int {
    // A tree that is a single leaf has a root whose two ways are the same leaf.
    var node = root
    for _ in 0...features.count {
      let value = feature(features[node])
      let isTrue =
        value.isNaN && !missingTrue.isEmpty && missingTrue[node] != 0 || holds(node, value, sets[node] ?? [])
      let next = isTrue ? trueNodes[node] : falseNodes[node]
      if (isTrue ? trueLeaves[node] : falseLeaves[node]) != 0 { return next }
      node = next
    }
    throw evaluationError("APUS-V-0206", "the tree at node \(root) has a cycle")
  }

  private func holds(_ node: Int, _ value: Double, _ members: Set<Double>) -> Bool {
    switch Mode(rawValue: modes[node]) {
    case .lessEqual: value <= splits[node]
    case .less: value < splits[node]
    case .greaterEqual: value >= splits[node]
    case .greater: value > splits[node]
    case .equal: value == splits[node]
    case .notEqual: value != splits[node]
    case .member: members.contains(value)
    case nil: false
    }
  }

  package static var samples: [Sample] {
    let attributes: Attributes = [
      "aggregate": .string("sum"), "targets": .int(2), "roots": .ints([0]), "features": .ints([0, 1]),
      "modes": .ints([0, 3]), "splits": .floats([0.5, -0.5]), "true_nodes": .ints([1, 0]),
      "false_nodes": .ints([2, 1]), "true_leaves": .ints([0, 1]), "false_leaves": .ints([1, 1]),
      "missing_true": .ints([]), "members": .floats([]), "member_counts": .ints([]), "leaf_targets": .ints([0, 1, 1]),
      "leaf_weights": .floats([1.5, -2, 3]),
    ]
    guard let op = try? TreeEnsemble(name: "tree_ensemble", attributes: attributes) else { return [] }
    return [Sample(op, "f32[N, 2]", where: ["N": 1...5])]
  }
}
