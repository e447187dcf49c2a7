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
struct LoopEmitter {
  /// Elements of the innermost variable that a tiled reduction accumulates together.
  static let tile = 128
  /// Scalar steps that make a block worth its scheduling.
  static let grain = 8192

  private final class Scope {
    let parent: Scope?
    let variables: Set<String>
    let depth: Int
    var text = ""
    var names: [Expr: String] = [:]

    init(parent: Scope?, adding names: [String]) {
      self.parent = parent
      variables = (parent?.variables ?? []).union(names)
      depth = (parent?.depth ?? 0) + 1
    }

    func find(_ expr: Expr) -> String? { names[expr] ?? parent?.find(expr) }
  }

  private let kernel: Kernel
  private let arena: ExprArena
  private(set) var parameters: [Dim]
  private var parameterIndex: [Dim: Int] = [:]
  private var free: [Expr: Set<String>] = [:]
  private var counter = 0
  /// Results of tiled reductions.
  private var tileNames: [Expr: String] = [:]
  /// The scope around the tile loop and the innermost variable, when reductions are tiled.
  private var tileScope: (scope: Scope, variable: LoopVariable)?
  private let bufferText: (Int) -> String
  /// C text for a load that is not a plain element of a buffer (the accumulator tile of a template).
  private let tileBuffer: (buffer: Int, text: String)?

  init(
    _ kernel: Kernel, parameters: [Dim] = [], tileBuffer: (buffer: Int, text: String)? = nil,
    bufferText: @escaping (Int) -> String = { "b\($0)" }
  ) {
    self.kernel = kernel
    arena = kernel.arena
    self.parameters = parameters
    self.tileBuffer = tileBuffer
    self.bufferText = bufferText
    for (index, dim) in parameters.enumerated() where parameterIndex[dim] == nil { parameterIndex[dim] = index }
  }

  // MARK: Whole kernels

  /// The kernel as a function of a virtual block.
  mutating func function() -> EmittedKernel {
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
      } else if let along = crossVariable() {
        (body, parallel) = blockedNest(root, outer.filter { $0 != along }, along, inner)
      } else {
        (body, parallel) = rowNest(root, outer, inner)
      }
    } else {
      emitStores(root)
      body = ""
      parallel = 1
    }
    // What the root computes is computed by every block: whole-tensor reductions run in one.
    let repeats = root.text.contains("for (")
    var text = "void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {\n"
    for (index, dtype) in arena.buffers.enumerated() {
      let written = kernel.stores.contains { $0.buffer == index }
      let type = (written ? "" : "const ") + CDialect.storage(dtype)
      text += "  \(type) *const \(bufferText(index)) = (\(type) *)buffers[\(index)];\n"
    }
    text += parameterText("params")
    if kernel.variables.isEmpty || repeats { text += "  if (block != 0) return;\n  blockCount = 1;\n" }
    text += root.text + body + "}\n"
    return EmittedKernel(text: text, parameters: parameters, blocks: repeats ? 1 : blocks(parallel))
  }

  func parameterText(_ source: String) -> String {
    parameters.indices.map { "  const i64 p\($0) = \(source)[\($0)];\n" }.joined()
  }

  private mutating func flatLoop(_ root: Scope, _ inner: LoopVariable) -> (String, Dim) {
    let scope = Scope(parent: root, adding: [inner.name])
    emitStores(scope)
    let extent = text(inner.extent, root)
    let name = Self.name(inner)
    return (
      """
        const apus_range r = apus_share(\(extent), block, blockCount);
      \(vectorPragma(scope))  for (i64 \(name) = r.begin; \(name) < r.end; \(name)++) {
      \(scope.text)  }

      """, inner.extent
    )
  }

  private mutating func rowNest(_ root: Scope, _ outer: [LoopVariable], _ inner: LoopVariable) -> (String, Dim) {
    let row = Scope(parent: root, adding: outer.map(\.name))
    let scope = Scope(parent: row, adding: [inner.name])
    emitStores(scope)
    let name = Self.name(inner)
    let total = Dim.product(outer.map(\.extent))
    return (
      """
        const apus_range r = apus_share(\(text(total, root)), block, blockCount);
        for (i64 o = r.begin; o < r.end; o++) {
      \(decode(outer, root))\(row.text)\(vectorPragma(scope))  for (i64 \(name) = 0; \(name) < \(text(inner.extent, root)); \(name)++) {
      \(scope.text)  }
        }

      """, total
    )
  }

  private mutating func tiledNest(_ root: Scope, _ outer: [LoopVariable], _ inner: LoopVariable) -> (String, Dim) {
    // What no tiled reduction depends on runs inside the tile, so that the reduction is done once for it.
    let needed = tiledDependencies(inner)
    let parallelLoops = outer.filter { needed.contains($0.name) }
    let innerLoops = outer.filter { !needed.contains($0.name) }
    let around = Scope(parent: root, adding: parallelLoops.map(\.name))
    var scopes = [around]
    for variable in innerLoops { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name])) }
    let scope = Scope(parent: scopes[scopes.count - 1], adding: [inner.name])
    tileScope = (around, inner)
    emitStores(scope)
    let tiles = inner.extent.ceilDivided(by: Dim(Self.tile))
    let total = Dim.product(parallelLoops.map(\.extent)) * tiles
    let tileCount = text(tiles, root)
    var loops = """
      \(vectorPragma(scope))    for (i64 jj = 0; jj < jn; jj++) {
          const i64 \(Self.name(inner)) = jt + jj;
      \(scope.text)    }

      """
    for (variable, own) in zip(innerLoops, scopes.dropFirst()).reversed() {
      loops = plainLoop(variable, text(variable.extent, root), own.text + loops)
    }
    return (
      """
        const apus_range r = apus_share(\(text(total, root)), block, blockCount);
        for (i64 ot = r.begin; ot < r.end; ot++) {
          const i64 jt = ot % (\(tileCount)) * \(Self.tile);
          const i64 jn = APUS_MIN(\(Self.tile), \(text(inner.extent, root)) - jt);
          i64 o = ot / (\(tileCount));
      \(decode(parallelLoops, root))\(around.text)\(loops)  }

      """, total
    )
  }

  /// Loop variables that the reductions over the innermost variable's tiles depend on.
  private mutating func tiledDependencies(_ inner: LoopVariable) -> Set<String> {
    var names: Set<String> = []
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      guard case .reduce = arena[expr] else { continue }
      let own = arena.freeVariables(expr, &free)
      if own.contains(inner.name) { names.formUnion(own) }
    }
    return names
  }

  /// A nest that reads along one variable and writes along another: both run in small squares, so that each cache line
  /// is used whole while it is near.
  private mutating func blockedNest(
    _ root: Scope, _ outer: [LoopVariable], _ along: LoopVariable, _ inner: LoopVariable
  ) -> (String, Dim) {
    // A narrow innermost variable makes short loops: the other one goes inside.
    let isNarrow = (inner.extent.constantValue ?? .max) < Self.square
    let (middle, innermost) = isNarrow ? (inner, along) : (along, inner)
    let around = Scope(parent: root, adding: outer.map(\.name))
    let row = Scope(parent: around, adding: [middle.name])
    let scope = Scope(parent: row, adding: [innermost.name])
    emitStores(scope)
    let (m, i) = (Self.name(middle), Self.name(innermost))
    let strip = isNarrow ? 256 : Self.square
    let tiles = along.extent.ceilDivided(by: Dim(strip))
    let total = Dim.product(outer.map(\.extent)) * tiles
    let (alongExtent, innerExtent, tileCount) = (text(along.extent, root), text(inner.extent, root), text(tiles, root))
    let strips = isNarrow ? "const i64 v0 = 0, v1 = \(innerExtent);" : ""
    let open = isNarrow ? "{" : "for (i64 v0 = 0; v0 < \(innerExtent); v0 += \(Self.square)) {"
    let last = isNarrow ? "" : "const i64 v1 = APUS_MIN(v0 + \(Self.square), \(innerExtent));"
    let (mFrom, mTo, iFrom, iTo) = isNarrow ? ("v0", "v1", "u0", "u1") : ("u0", "u1", "v0", "v1")
    return (
      """
        const apus_range r = apus_share(\(text(total, root)), block, blockCount);
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

  /// Elements of a square's side.
  private static let square = 16

  /// Splits the linear row number `o` into the outer variables.
  private mutating func decode(_ outer: [LoopVariable], _ root: Scope) -> String {
    if outer.isEmpty { return "    (void)o;\n" }
    if outer.count == 1 { return "    const i64 \(Self.name(outer[0])) = o;\n" }
    var lines: [String] = []
    for variable in outer.dropFirst().reversed() {
      let extent = text(variable.extent, root)
      lines.append("    const i64 \(Self.name(variable)) = rest % (\(extent)); rest /= (\(extent));\n")
    }
    return "    i64 rest = o;\n" + lines.joined() + "    const i64 \(Self.name(outer[0])) = rest;\n"
  }

  private func vectorPragma(_ scope: Scope) -> String {
    scope.text.contains("for (") ? "" : "  _Pragma(\"clang loop vectorize(assume_safety)\")\n"
  }

  /// Blocks for the work at hand: enough for every core, none too small.
  private func blocks(_ parallel: Dim) -> Dim {
    var work = kernel.iterations
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      guard case .reduce(_, let bound, _) = arena[expr] else { continue }
      let own = kernel.variables.filter { free[expr]?.contains($0.name) ?? false }
      work = work + Dim.product(own.map(\.extent)) * Dim.product(bound.map(\.extent))
    }
    let wanted = work.ceilDivided(by: Dim(Self.grain))
    return Dim.minimum(Dim.minimum(wanted, parallel), 64)
  }

  // MARK: Epilogues

  /// The body of an epilogue: loops over the rows and columns of an accumulator tile.
  mutating func epilogueBody() -> String {
    let root = Scope(parent: nil, adding: [])
    let names = kernel.variables
    let batchScope = Scope(parent: root, adding: [names[0].name])
    let row = Scope(parent: batchScope, adding: [names[1].name])
    let scope = Scope(parent: row, adding: [names[2].name])
    emitStores(scope)
    return """
      \(root.text)  const i64 \(Self.name(names[0])) = batch;
      \(batchScope.text)  for (i64 i = 0; i < rows; i++) {
        const i64 \(Self.name(names[1])) = row + i;
      \(row.text)  APUS_LANES for (i64 j = 0; j < cols; j++) {
          const i64 \(Self.name(names[2])) = col + j;
      \(scope.text)  }
        }

      """
  }

  // MARK: Expressions

  private mutating func emitStores(_ scope: Scope) {
    for store in kernel.stores {
      let dtype = arena.buffers[store.buffer]
      let value = emit(store.value, scope)
      let index = text(store.index, scope)
      scope.text += "    \(bufferText(store.buffer))[\(index)] = \(CDialect.stored(value, dtype));\n"
    }
  }

  private static func name(_ variable: LoopVariable) -> String { counter(variable.name) }

  /// The counter of a loop variable; no type or macro of the templates' texts is called so.
  private static func counter(_ name: String) -> String { "q" + name.dropFirst(2) }

  /// The outermost scope, from `scope` upwards, in which all variables are known.
  private func home(_ needed: Set<String>, _ scope: Scope) -> Scope {
    var best = scope
    while let parent = best.parent, needed.isSubset(of: parent.variables) { best = parent }
    return best
  }

  private mutating func emit(_ expr: Expr, _ scope: Scope) -> String {
    switch arena[expr] {
    case .float(let bits, let dtype): return CDialect.float(Double(bitPattern: bits), dtype)
    case .integer(let value, let dtype): return CDialect.integer(value, dtype)
    default: break
    }
    let target = home(arena.freeVariables(expr, &free), scope)
    if let name = target.find(expr) { return name }
    if case .reduce(let reduction, let bound, let body) = arena[expr] {
      return emitReduction(expr, reduction, bound, body, target)
    }
    let value = expression(expr, target)
    let name = makeName()
    target.text += "    const \(CDialect.scalar(arena.type(expr))) \(name) = \(value);\n"
    target.names[expr] = name
    return name
  }

  private mutating func makeName() -> String {
    counter += 1
    return "t\(counter)"
  }

  private mutating func expression(_ expr: Expr, _ scope: Scope) -> String {
    switch arena[expr] {
    case .index(let dim): return text(dim, scope)
    case .load(let buffer, let dim):
      if let tile = tileBuffer, tile.buffer == buffer { return tile.text }
      return CDialect.load(bufferText(buffer), text(dim, scope), arena.buffers[buffer])
    case .unary(let function, let x): return CDialect.unary(function, emit(x, scope), arena.type(x))
    case .binary(let function, let x, let y):
      return CDialect.binary(function, emit(x, scope), emit(y, scope), arena.type(x), arena.type(y))
    case .select(let c, let x, let y): return "\(emit(c, scope)) ? \(emit(x, scope)) : \(emit(y, scope))"
    case .cast(let x, let dtype): return CDialect.cast(emit(x, scope), from: arena.type(x), to: dtype)
    case .rounded(let x, let dtype): return CDialect.rounded(emit(x, scope), dtype)
    case .float, .integer, .reduce: return emit(expr, scope)
    }
  }

  // MARK: Reductions

  private mutating func emitReduction(
    _ expr: Expr, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ scope: Scope
  ) -> String {
    let name = makeName()
    if let (around, variable) = tileScope, scope.variables.contains(variable.name),
      arena.freeVariables(expr, &free).subtracting([variable.name]).isSubset(of: around.variables)
    {
      if let known = tileNames[expr] { return known }
      emitTiled(name, reduction, bound, body, around, variable)
      tileNames[expr] = "\(name)[jj]"
      return "\(name)[jj]"
    }
    emitScalar(name, reduction, bound, body, scope)
    scope.names[expr] = name
    return name
  }

  private mutating func emitScalar(
    _ name: String, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ scope: Scope
  ) {
    let dtype = arena.type(body)
    // Rows are summed in f64: it costs little where memory is the limit, and keeps variances usable.
    let type = dtype == .f32 && reduction == .sum ? "double" : CDialect.scalar(dtype)
    var scopes = [scope]
    for variable in bound { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name])) }
    let inner = scopes[scopes.count - 1]
    let value = emit(body, inner)
    let isSearch = reduction == .argmin || reduction == .argmax
    let lanes = isSearch || inner.text.contains("for (") ? nil : Self.lanes(bound)
    let accumulator = isSearch ? "\(name)v" : lanes != nil ? "\(name)l" : name
    var loops = inner.text
    if isSearch {
      loops += searchStep(reduction, value, accumulator, name, Self.name(bound[0]))
    } else {
      let target = lanes != nil ? "\(accumulator)[l]" : name
      loops += "    \(target) = (\(type))(\(CDialect.combine(reduction, target, value, dtype)));\n"
    }
    for (variable, around) in zip(bound, scopes).reversed() {
      let extent = text(variable.extent, around)
      let isInnermost = variable == bound.last
      if let lanes, isInnermost {
        loops = laneLoop(variable, extent, lanes, loops)
      } else {
        loops = plainLoop(variable, extent, loops)
      }
      if around !== scope { loops = around.text + loops }
    }
    let start = CDialect.identity(reduction, dtype)
    if let lanes {
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

  /// Independent accumulators of a reduction, so that its loop is vector code in a fixed order; nil for loops too short.
  private static func lanes(_ bound: [LoopVariable]) -> Int? {
    guard let last = bound.last else { return nil }
    let steps = last.extent.constantValue ?? .max
    return steps < 8 ? nil : min(steps, 64)
  }

  private func plainLoop(_ variable: LoopVariable, _ extent: String, _ body: String) -> String {
    let counter = Self.name(variable)
    return "    for (i64 \(counter) = 0; \(counter) < \(extent); \(counter)++) {\n\(body)    }\n"
  }

  /// A loop in strips: element l of every strip goes to accumulator l.
  private func laneLoop(_ variable: LoopVariable, _ extent: String, _ lanes: Int, _ body: String) -> String {
    let counter = Self.name(variable)
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

  private func searchStep(_ reduction: Reduction, _ value: String, _ best: String, _ at: String, _ counter: String)
    -> String
  {
    let comparison = reduction == .argmax ? ">" : "<"
    // A NaN is more extreme than any number; for integers the last condition is never true.
    let condition = "\(counter) == 0 || \(value) \(comparison) \(best) || (\(value) != \(value) && \(best) == \(best))"
    return "    if (\(condition)) { \(best) = \(value); \(at) = \(counter); }\n"
  }

  private mutating func emitTiled(
    _ name: String, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ around: Scope,
    _ variable: LoopVariable
  ) {
    let dtype = arena.type(body)
    let type = CDialect.scalar(dtype)
    var scopes = [around]
    for bound in bound { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [bound.name])) }
    let lanes = Scope(parent: scopes[scopes.count - 1], adding: [variable.name])
    let value = emit(body, lanes)
    let isSearch = reduction == .argmin || reduction == .argmax
    let accumulator = isSearch ? "\(name)v" : name
    if isSearch {
      lanes.text += searchStep(reduction, value, "\(accumulator)[jj]", "\(name)[jj]", Self.name(bound[0]))
    } else {
      lanes.text +=
        "    \(name)[jj] = (\(type))(\(CDialect.combine(reduction, "\(name)[jj]", value, dtype)));\n"
    }
    var loops = """
      \(vectorPragma(lanes))    for (i64 jj = 0; jj < jn; jj++) {
          const i64 \(Self.name(variable)) = jt + jj;
      \(lanes.text)    }

      """
    for (index, bound) in bound.enumerated().reversed() {
      let counter = Self.name(bound)
      loops = """
          for (i64 \(counter) = 0; \(counter) < \(text(bound.extent, scopes[index])); \(counter)++) {
        \(scopes[index + 1].text)\(loops)    }

        """
    }
    around.text += "    APUS_ALIGNED \(type) \(accumulator)[\(Self.tile)];\n"
    if isSearch { around.text += "    i64 \(name)[\(Self.tile)];\n" }
    let start = CDialect.identity(reduction, dtype)
    let indexStart = isSearch ? " \(name)[jj] = 0;" : ""
    around.text += "    for (i64 jj = 0; jj < jn; jj++) { \(accumulator)[jj] = \(start);\(indexStart) }\n\(loops)"
  }

  /// Whether reductions should run tile-wise: one depends on the innermost variable and its loads walk along that
  /// variable at least as often as along the reduction's own.
  private mutating func wantsTile() -> Bool {
    guard let inner = kernel.variables.last else { return false }
    var along = 0
    var across = 0
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      guard case .reduce(_, let bound, let body) = arena[expr], arena.freeVariables(expr, &free).contains(inner.name),
        let last = bound.last
      else { continue }
      for part in arena.reachable([body]) {
        guard case .load(_, let index) = arena[part] else { continue }
        if index.unitStride(in: inner.name) { along += 1 }
        if index.unitStride(in: last.name) { across += 1 }
      }
    }
    return along > 0 && along >= across
  }

  // MARK: Index text

  /// A size or index in C: what depends on shapes only becomes a parameter.
  private mutating func text(_ dim: Dim, _ scope: Scope) -> String {
    if ExprArena.locals(of: dim).isEmpty { return parameter(dim) }
    var shapeOnly = Dim(dim.constantTerm)
    var groups: [(local: String, coefficient: Dim)] = []
    for summand in dim.summands {
      var coefficient = Dim(summand.coefficient)
      var locals: [String] = []
      for factor in summand.factors {
        if let text = local(factor, scope) {
          locals.append(text)
        } else {
          coefficient = coefficient * factor.dim
        }
      }
      if locals.isEmpty {
        shapeOnly = shapeOnly + coefficient
        continue
      }
      let key = locals.joined(separator: " * ")
      if let known = groups.firstIndex(where: { $0.local == key }) {
        groups[known].coefficient = groups[known].coefficient + coefficient
      } else {
        groups.append((key, coefficient))
      }
    }
    var parts = groups.map { $0.coefficient == 1 ? $0.local : "\($0.local) * \(parameter($0.coefficient))" }
    if shapeOnly != 0 { parts.append(parameter(shapeOnly)) }
    return parts.count == 1 && !parts[0].contains(" ") ? parts[0] : "(\(parts.joined(separator: " + ")))"
  }

  private mutating func parameter(_ dim: Dim) -> String {
    if let value = dim.constantValue { return "\(value)L" }
    if let index = parameterIndex[dim] { return "p\(index)" }
    parameters.append(dim)
    parameterIndex[dim] = parameters.count - 1
    return "p\(parameters.count - 1)"
  }

  /// The text of a factor that holds loop variables; nil for one that depends on shapes only.
  private mutating func local(_ factor: Dim.Factor, _ scope: Scope) -> String? {
    guard !ExprArena.locals(of: factor.dim).isEmpty else { return nil }
    switch factor {
    case .symbol(let symbol):
      if let expr = ExprArena.dynamicExpr(symbol.name) { return emit(expr, scope) }
      return Self.counter(symbol.name)
    case .quotient(let a, let b):
      let (x, y) = (text(a, scope), text(b, scope))
      return a.range.lower >= 0 && b.range.lower > 0 ? "(\(x) / \(y))" : "apus_floor_div(\(x), \(y))"
    case .minimum(let a, let b): return "APUS_MIN(\(text(a, scope)), \(text(b, scope)))"
    case .maximum(let a, let b): return "APUS_MAX(\(text(a, scope)), \(text(b, scope)))"
    }
  }
}
