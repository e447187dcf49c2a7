import ApusCompiler
import ApusCore
import ApusKernel

/// A kernel as C text with what a launch must supply.
struct EmittedKernel {
  /// Function text; `KERNEL_NAME` stands for the symbol.
  var text: String
  var parameters: [Dim]
  var blocks: Dim
}

/// Turns a kernel into C loops.
///
/// Every expression is computed in the outermost loop whose variables it needs, once; this places row statistics of
/// normalisations before the loop over the row. A reduction that depends on the innermost loop variable and reads memory
/// along it is computed for a tile of that variable at once, so that both loops are vector code.
final class LoopEmitter {
  private typealias Scope = ScalarEmitter.Scope

  private let kernel: Kernel
  private let schedule: LoopSchedule
  private let arena: ExprArena
  private let scalars: ScalarEmitter
  /// Results of tiled reductions.
  private var tileNames: [Expr: String] = [:]
  /// The scope around the tile loop and the innermost variable, when reductions are tiled.
  private var tileScope: (scope: Scope, variable: LoopVariable)?
  /// Pieces of rows that tiled reductions read, as far as they have been written.
  private var pieces = 0.0
  /// Accumulators of reductions, and their steps one after the other.
  private var (folds, chained) = (0.0, 0.0)

  /// - Parameter tileBuffer: a buffer whose loads are no elements in memory but this text: the accumulator tile of a template.
  init(
    _ kernel: Kernel, _ schedule: LoopSchedule = .usual, parameters: [Dim] = [],
    tileBuffer: (buffer: Int, text: String)? = nil, bufferText: @escaping (Int) -> String = { "b\($0)" }
  ) {
    self.kernel = kernel
    self.schedule = schedule
    arena = kernel.arena
    scalars = ScalarEmitter(kernel, parameters: parameters, bufferText: bufferText)
    scalars.printReduction = { [unowned self] node, scope in emitReduction(node, scope) }
    if let tileBuffer {
      scalars.printLoad = { buffer, _, _ in buffer == tileBuffer.buffer ? tileBuffer.text : nil }
    }
  }

  var parameters: [Dim] { scalars.parameters }

  func parameterText(_ source: String) -> String { scalars.parameterText(source) }

  // MARK: Whole kernels

  /// The kernel as a function of a virtual block.
  func function() -> EmittedKernel {
    let isTiled = wantsTile()
    let root = Scope(parent: nil, adding: [])
    let body: String
    let parallel: Dim
    if let inner = kernel.variables.last {
      let outer = Array(kernel.variables.dropLast())
      if isTiled {
        (body, parallel) = tiledNest(root, outer, inner)
      } else if outer.isEmpty {
        (body, parallel) = flatLoop(root, inner)
      } else if !schedule.staysInRows, let along = crossVariable() {
        (body, parallel) = blockedNest(root, outer.filter { $0 != along }, along, inner)
      } else {
        (body, parallel) = rowNest(root, outer, inner)
      }
    } else {
      scalars.emitStores(root)
      body = ""
      parallel = 1
    }
    // What the root computes is computed by every block: whole-tensor reductions run in one.
    let repeats = root.text.contains("for (")
    var text = "void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {\n"
    text += scalars.bufferDeclarations("buffers") + scalars.parameterText("params")
    if kernel.variables.isEmpty || repeats { text += "  if (block != 0) return;\n  blockCount = 1;\n" }
    text += root.text + body + "}\n"
    return EmittedKernel(text: text, parameters: parameters, blocks: repeats ? 1 : blocks(parallel))
  }

  private func flatLoop(_ root: Scope, _ inner: LoopVariable) -> (String, Dim) {
    let scope = Scope(parent: root, adding: [inner.name])
    scalars.emitStores(scope)
    let extent = scalars.text(inner.extent, root)
    let name = scalars.name(inner)
    return (
      """
        const apus_range r = apus_share(\(extent), block, blockCount);
      \(vectorPragma(scope))  for (i64 \(name) = r.begin; \(name) < r.end; \(name)++) {
      \(scope.text)  }

      """, inner.extent
    )
  }

  private func rowNest(_ root: Scope, _ outer: [LoopVariable], _ inner: LoopVariable) -> (String, Dim) {
    let row = Scope(parent: root, adding: outer.map(\.name))
    let scope = Scope(parent: row, adding: [inner.name])
    scalars.emitStores(scope)
    let name = scalars.name(inner)
    let total = Dim.product(outer.map(\.extent))
    return (
      """
        const apus_range r = apus_share(\(scalars.text(total, root)), block, blockCount);
        for (i64 o = r.begin; o < r.end; o++) {
      \(decode(outer, root))\(row.text)\(vectorPragma(scope))  for (i64 \(name) = 0; \(name) < \(scalars.text(inner.extent, root)); \(name)++) {
      \(scope.text)  }
        }

      """, total
    )
  }

  private func tiledNest(_ root: Scope, _ outer: [LoopVariable], _ inner: LoopVariable) -> (String, Dim) {
    // What no tiled reduction depends on runs inside the tile, so that the reduction is done once for it.
    let needed = tiledDependencies(inner)
    let parallelLoops = outer.filter { needed.contains($0.name) }
    let innerLoops = outer.filter { !needed.contains($0.name) }
    let around = Scope(parent: root, adding: parallelLoops.map(\.name))
    var scopes = [around]
    for variable in innerLoops { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name])) }
    let scope = Scope(parent: scopes[scopes.count - 1], adding: [inner.name])
    tileScope = (around, inner)
    scalars.emitStores(scope)
    let tiles = inner.extent.ceilDivided(by: Dim(schedule.tile))
    let total = Dim.product(parallelLoops.map(\.extent)) * tiles
    let tileCount = scalars.text(tiles, root)
    var loops = """
      \(vectorPragma(scope))    for (i64 jj = 0; jj < jn; jj++) {
          const i64 \(scalars.name(inner)) = jt + jj;
      \(scope.text)    }

      """
    for (variable, own) in zip(innerLoops, scopes.dropFirst()).reversed() {
      loops = scalars.loop(variable, scalars.text(variable.extent, root), own.text + loops)
    }
    return (
      """
        const apus_range r = apus_share(\(scalars.text(total, root)), block, blockCount);
        for (i64 ot = r.begin; ot < r.end; ot++) {
          const i64 jt = ot % (\(tileCount)) * \(schedule.tile);
          const i64 jn = APUS_MIN(\(schedule.tile), \(scalars.text(inner.extent, root)) - jt);
          i64 o = ot / (\(tileCount));
      \(decode(parallelLoops, root))\(around.text)\(loops)  }

      """, total
    )
  }

  /// Loop variables that the reductions over the innermost variable's tiles depend on.
  private func tiledDependencies(_ inner: LoopVariable) -> Set<String> {
    var names: Set<String> = []
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      guard case .reduce = arena[expr] else { continue }
      let own = scalars.freeVariables(expr)
      if own.contains(inner.name) { names.formUnion(own) }
    }
    return names
  }

  /// A nest that reads along one variable and writes along another: both run in small squares, so that each cache line
  /// is used whole while it is near.
  private func blockedNest(
    _ root: Scope, _ outer: [LoopVariable], _ along: LoopVariable, _ inner: LoopVariable
  ) -> (String, Dim) {
    // A narrow innermost variable makes short loops: the other one goes inside.
    let isNarrow = (inner.extent.constantValue ?? .max) < schedule.square
    let (middle, innermost) = isNarrow ? (inner, along) : (along, inner)
    let around = Scope(parent: root, adding: outer.map(\.name))
    let row = Scope(parent: around, adding: [middle.name])
    let scope = Scope(parent: row, adding: [innermost.name])
    scalars.emitStores(scope)
    let (m, i) = (scalars.name(middle), scalars.name(innermost))
    let strip = isNarrow ? 256 : schedule.square
    let tiles = along.extent.ceilDivided(by: Dim(strip))
    let total = Dim.product(outer.map(\.extent)) * tiles
    let (alongExtent, innerExtent, tileCount) = (
      scalars.text(along.extent, root), scalars.text(inner.extent, root), scalars.text(tiles, root)
    )
    let strips = isNarrow ? "const i64 v0 = 0, v1 = \(innerExtent);" : ""
    let open = isNarrow ? "{" : "for (i64 v0 = 0; v0 < \(innerExtent); v0 += \(schedule.square)) {"
    let last = isNarrow ? "" : "const i64 v1 = APUS_MIN(v0 + \(schedule.square), \(innerExtent));"
    let (mFrom, mTo, iFrom, iTo) = isNarrow ? ("v0", "v1", "u0", "u1") : ("u0", "u1", "v0", "v1")
    return (
      """
        const apus_range r = apus_share(\(scalars.text(total, root)), block, blockCount);
        for (i64 ot = r.begin; ot < r.end; ot++) {
          const i64 u0 = ot % (\(tileCount)) * \(strip), u1 = APUS_MIN(u0 + \(strip), \(alongExtent));
          i64 o = ot / (\(tileCount));
      \(decode(outer, root))\(around.text)    \(strips)
        \(open)
          \(last)
          for (i64 \(m) = \(mFrom); \(m) < \(mTo); \(m)++) {
      \(row.text)\(vectorPragma(scope))    for (i64 \(i) = \(iFrom); \(i) < \(iTo); \(i)++) {
      \(scope.text)    }
          }
        }
        }

      """, total
    )
  }

  /// The variable that every load with a long stride along the innermost one walks along; nil when rows are contiguous
  /// or something is reduced.
  private func crossVariable() -> LoopVariable? {
    guard let inner = kernel.variables.last else { return nil }
    var found: LoopVariable?
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      if case .reduce = arena[expr] { return nil }
      guard case .load(_, let index) = arena[expr], ExprArena.locals(of: index).contains(inner.name),
        !index.unitStride(in: inner.name)
      else { continue }
      guard let along = kernel.variables.dropLast().first(where: { index.unitStride(in: $0.name) }),
        found == nil || found == along
      else { return nil }
      found = along
    }
    return found
  }

  /// Splits the linear row number `o` into the outer variables.
  private func decode(_ outer: [LoopVariable], _ root: Scope) -> String {
    "    i64 rest = o;\n" + scalars.decode("rest", outer, root)
  }

  private func vectorPragma(_ scope: Scope) -> String {
    if scope.text.contains("for (") { return "" }
    let unrolling = schedule.unrolling.map { " interleave_count(\($0))" } ?? ""
    return "  _Pragma(\"clang loop vectorize(assume_safety)\(unrolling)\")\n"
  }

  /// Blocks for the work at hand: enough for every core, none too small.
  private func blocks(_ parallel: Dim) -> Dim {
    Dim.minimum(Dim.minimum(work.ceilDivided(by: Dim(schedule.grain)), parallel), 64)
  }

  /// Elements that lie across and take as long as a vector of those that follow one another.
  private static let scattered = 4.0

  /// What the function that has been written does, with vectors of so many elements.
  func cost(lanes: Int, _ blocks: Dim) -> KernelWork {
    let (lanes, elements) = (Double(lanes), iterations(kernel.variables))
    let steps = Double(work.estimate) / lanes
    let functions = arena.reachable(kernel.stores.map(\.value)).count { expr in
      switch arena[expr] {
      case .unary(let function, _), .binary(let function, _, _): function.isExpensive
      default: false
      }
    }
    var cost = KernelWork()
    // What lies across is put together element by element.
    cost.stores = elements / (crossVariable() == nil ? lanes : min(lanes, Self.scattered))
    // An element and its sum, which are both in memory.
    cost.again = 2 * (steps - elements / lanes)
    cost.activations = 2 * elements / lanes
    cost.functions = steps * Double(functions) / Double(schedule.unrolling ?? 1)
    (cost.pieces, cost.folds, cost.chained) = (pieces, folds, chained)
    cost.blocks = blocks.estimate
    return cost
  }

  /// Scalar steps of all loops.
  var work: Dim {
    var work = kernel.iterations
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      guard case .reduce(_, let bound, _) = arena[expr] else { continue }
      let own = kernel.variables.filter { scalars.freeVariables(expr).contains($0.name) }
      work = work + Dim.product(own.map(\.extent)) * Dim.product(bound.map(\.extent))
    }
    return work
  }

  // MARK: Epilogues

  /// The body of an epilogue: loops over the rows and columns of an accumulator tile.
  func epilogueBody() -> String {
    let root = Scope(parent: nil, adding: [])
    let names = kernel.variables
    let batchScope = Scope(parent: root, adding: [names[0].name])
    let row = Scope(parent: batchScope, adding: [names[1].name])
    let scope = Scope(parent: row, adding: [names[2].name])
    scalars.emitStores(scope)
    return """
      \(root.text)  const i64 \(scalars.name(names[0])) = batch;
      \(batchScope.text)  for (i64 i = 0; i < rows; i++) {
        const i64 \(scalars.name(names[1])) = row + i;
      \(row.text)  APUS_LANES for (i64 j = 0; j < cols; j++) {
          const i64 \(scalars.name(names[2])) = col + j;
      \(scope.text)  }
        }

      """
  }

  // MARK: Reductions

  private func emitReduction(_ node: ReductionNode, _ scope: Scope) -> String {
    let (expr, reduction, bound, body) = (node.expr, node.reduction, node.variables, node.body)
    let name = scalars.makeName()
    if let (around, variable) = tileScope, scope.variables.contains(variable.name),
      scalars.freeVariables(expr).subtracting([variable.name]).isSubset(of: around.variables)
    {
      if let known = tileNames[expr] { return known }
      emitTiled(name, reduction, bound, body, around, variable)
      tileNames[expr] = "\(name)[jj]"
      return "\(name)[jj]"
    }
    emitScalar(name, reduction, bound, body, scope)
    scope.name(expr, name)
    return name
  }

  private func emitScalar(
    _ name: String, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ scope: Scope
  ) {
    let dtype = arena.type(body)
    // Rows are summed in f64: it costs little where memory is the limit, and keeps variances usable.
    let type = dtype == .f32 && reduction == .sum ? "double" : CDialect.scalar(dtype)
    var scopes = [scope]
    for variable in bound { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name])) }
    let inner = scopes[scopes.count - 1]
    let value = scalars.emit(body, inner)
    let isSearch = reduction == .argmin || reduction == .argmax
    let lanes = isSearch || inner.text.contains("for (") ? nil : lanes(bound)
    let accumulator = isSearch ? "\(name)v" : lanes != nil ? "\(name)l" : name
    var loops = inner.text
    if isSearch {
      loops += scalars.searchStep(reduction, value, accumulator, name, scalars.name(bound[0]))
    } else {
      let target = lanes != nil ? "\(accumulator)[l]" : name
      loops += "    \(target) = (\(type))(\(CDialect.combine(reduction, target, value, dtype)));\n"
    }
    for (variable, around) in zip(bound, scopes).reversed() {
      let extent = scalars.text(variable.extent, around)
      let isInnermost = variable == bound.last
      if let lanes, isInnermost {
        loops = laneLoop(variable, extent, lanes, loops)
      } else {
        loops = scalars.loop(variable, extent, loops)
      }
      if around !== scope { loops = around.text + loops }
    }
    let start = CDialect.identity(reduction, dtype)
    if let lanes {
      let count = iterations(of: scope)
      folds += count * Double(lanes)
      chained += count * iterations(bound) / Double(lanes)
      scope.text += "    APUS_ALIGNED \(type) \(accumulator)[\(lanes)];\n"
      scope.text += "    for (i64 l = 0; l < \(lanes); l++) \(accumulator)[l] = \(start);\n    {\n\(loops)    }\n"
      scope.text += "    \(type) \(name) = \(accumulator)[0];\n"
      let last = CDialect.combine(reduction, name, "\(accumulator)[l]", type == "double" ? .f64 : dtype)
      scope.text += "    for (i64 l = 1; l < \(lanes); l++) \(name) = (\(type))(\(last));\n"
      return
    }
    scope.text += "    \(type) \(accumulator) = \(start);\n"
    if isSearch { scope.text += "    i64 \(name) = 0;\n" }
    scope.text += "    {\n\(loops)    }\n"
  }

  /// How often what is in a scope is computed.
  private func iterations(of scope: Scope) -> Double {
    iterations(kernel.variables.filter { scope.variables.contains($0.name) })
  }

  private func iterations(_ variables: [LoopVariable]) -> Double {
    variables.reduce(1) { $0 * Double($1.extent.estimate) }
  }

  /// Independent accumulators of a reduction, so that its loop is vector code in a fixed order; nil for loops too short.
  private func lanes(_ bound: [LoopVariable]) -> Int? {
    guard let last = bound.last else { return nil }
    let steps = last.extent.constantValue ?? .max
    return steps < 8 ? nil : min(steps, schedule.lanes)
  }

  /// A loop in strips: element l of every strip goes to accumulator l.
  private func laneLoop(_ variable: LoopVariable, _ extent: String, _ lanes: Int, _ body: String) -> String {
    let counter = scalars.name(variable)
    return """
        for (i64 s = 0; s < \(extent); s += \(lanes)) {
          const i64 n = APUS_MIN(\(lanes), \(extent) - s);
          _Pragma("clang loop vectorize(assume_safety)")
          for (i64 l = 0; l < n; l++) {
            const i64 \(counter) = s + l;
      \(body)    }
        }

      """
  }

  private func emitTiled(
    _ name: String, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ around: Scope,
    _ variable: LoopVariable
  ) {
    let dtype = arena.type(body)
    let type = CDialect.scalar(dtype)
    var scopes = [around]
    for bound in bound { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [bound.name])) }
    let lanes = Scope(parent: scopes[scopes.count - 1], adding: [variable.name])
    let value = scalars.emit(body, lanes)
    let isSearch = reduction == .argmin || reduction == .argmax
    let accumulator = isSearch ? "\(name)v" : name
    if isSearch {
      lanes.text += scalars.searchStep(reduction, value, "\(accumulator)[jj]", "\(name)[jj]", scalars.name(bound[0]))
    } else {
      lanes.text +=
        "    \(name)[jj] = (\(type))(\(CDialect.combine(reduction, "\(name)[jj]", value, dtype)));\n"
    }
    var loops = """
      \(vectorPragma(lanes))    for (i64 jj = 0; jj < jn; jj++) {
          const i64 \(scalars.name(variable)) = jt + jj;
      \(lanes.text)    }

      """
    for (index, bound) in bound.enumerated().reversed() {
      let counter = scalars.name(bound)
      loops = """
          for (i64 \(counter) = 0; \(counter) < \(scalars.text(bound.extent, scopes[index])); \(counter)++) {
        \(scopes[index + 1].text)\(loops)    }

        """
    }
    let tiles = variable.extent.ceilDivided(by: Dim(schedule.tile)).estimate
    // Whole rows follow one another.
    if tiles > 1 { pieces += iterations(of: around) * iterations(bound) * Double(tiles) }
    around.text += "    APUS_ALIGNED \(type) \(accumulator)[\(schedule.tile)];\n"
    if isSearch { around.text += "    i64 \(name)[\(schedule.tile)];\n" }
    let start = CDialect.identity(reduction, dtype)
    let indexStart = isSearch ? " \(name)[jj] = 0;" : ""
    around.text += "    for (i64 jj = 0; jj < jn; jj++) { \(accumulator)[jj] = \(start);\(indexStart) }\n\(loops)"
  }

  /// Whether reductions should run tile-wise: one depends on the innermost variable and its loads walk along that.
  private func wantsTile() -> Bool {
    guard let inner = kernel.variables.last else { return false }
    return scalars.walksAlong(
      inner, scalars.reductions.filter { scalars.freeVariables($0.expr).contains(inner.name) })
  }
}
