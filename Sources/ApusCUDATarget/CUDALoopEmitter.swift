import ApusCompiler
import ApusCore
import ApusKernel

/// A kernel as CUDA text with what a launch must supply.
struct EmittedKernel {
  /// The function `KERNEL_NAME_body`, where `KERNEL_NAME` stands for the symbol.
  var text: String
  var bufferCount: Int
  var parameters: [Dim]
  var blocks: Dim
  var threads: Int
}

extension EmittedKernel {
  /// The body with the kernel around it.
  var whole: String {
    let parameter = parameters.isEmpty ? "" : ", const __grid_constant__ apus_params<\(parameters.count)> P"
    return text + """
      extern "C" __global__ void __launch_bounds__(\(threads)) KERNEL_NAME(
          const __grid_constant__ apus_buffers<\(bufferCount)> B\(parameter)) {
        __shared__ __align__(16) u8 shared[\(CUDALoopEmitter.sharedByteCount)];
        LAUNCH_CONSTANTS(APUS_ASK_EARLY)
        apus_wait_prior();
        KERNEL_NAME_body(B.b, \(parameters.isEmpty ? "0" : "P.p"), blockIdx.x, gridDim.x, shared);
      }

      """
  }

  /// Kernels side by side in one: each has the blocks that it asks for, or all blocks in turn where a launch has others than that.
  ///
  /// - Returns: nil where they need blocks of different sizes.
  static func joined(_ kernels: [EmittedKernel]) -> EmittedKernel? {
    guard let first = kernels.first, kernels.allSatisfy({ $0.threads == first.threads }) else { return nil }
    if kernels.count == 1 { return first }
    var text = ""
    var calls = ""
    var (buffers, parameters) = (0, kernels.count)
    for (index, kernel) in kernels.enumerated() {
      text += kernel.text.replacing("KERNEL_NAME_body", with: "KERNEL_NAME_part\(index)")
      let call =
        "KERNEL_NAME_part\(index)(buffers + \(buffers), params + \(parameters), isOwn ? block - from : block, "
        + "isOwn ? params[\(index)] : blockCount, shared);"
      calls += """
        \(index == 0 ? "" : "  if (!isOwn) __syncthreads();\n  from += params[\(index - 1)];\n")\
          if (!isOwn || (block >= from && block < from + params[\(index)]))
            \(call)

        """
      buffers += kernel.bufferCount
      parameters += kernel.parameters.count
    }
    let all = kernels.indices.map { "params[\($0)]" }.joined(separator: " + ")
    text += """
      APUS_INLINE void KERNEL_NAME_body(
          void *const *buffers, const i64 *params, i64 block, i64 blockCount, u8 *shared) {
        const bool isOwn = blockCount == \(all);
        i64 from = 0;
      \(calls)}

      """
    return EmittedKernel(
      text: text, bufferCount: buffers, parameters: kernels.map(\.blocks) + kernels.flatMap(\.parameters),
      blocks: Dim.sum(kernels.map(\.blocks)), threads: first.threads)
  }
}

/// Turns a kernel into CUDA loops.
///
/// Without statistics of rows, a thread computes elements by itself: those of all loop variables that reductions depend on
/// are spread over threads, the innermost fastest, others run inside. With them, a group of threads (a part of a warp, a
/// warp, or a block) owns a row: it computes the row's reductions together and then spreads the row's elements over its
/// threads. Results do not depend on how many blocks run: each owns units that are a stride apart.
final class CUDALoopEmitter {
  private typealias Scope = ScalarEmitter.Scope

  /// Threads of a block whose groups are no larger than a warp.
  static let threads = 256
  /// More blocks than run at once on any GPU.
  static let mostBlocks = 8192
  /// Strips of a row that a thread holds, and loads of 16 bytes in them.
  private static let mostTurns = 4
  private static let mostHeld = 12
  /// Bytes of shared memory that reductions of a block use.
  static let sharedByteCount = 1024

  private let kernel: Kernel
  private let arena: ExprArena
  private let scalars: ScalarEmitter
  private let strips: Strips
  /// The type of indices.
  private let index: String
  private let reductions: [ReductionNode]
  /// Threads of a group that computes reductions together.
  private var width = 1
  /// Scopes in which all threads of a group compute the same.
  private var uniform: [Scope] = []

  /// - Parameter threads: how many give every part of a GPU something to do.
  init(_ kernel: Kernel, threads: Int) {
    self.kernel = kernel
    arena = kernel.arena
    scalars = ScalarEmitter(kernel)
    reductions = scalars.reductions
    let isNarrow = IndexWidth.isNarrow(kernel)
    index = isNarrow ? "i32" : "i64"
    scalars.hasNarrowIndices = isNarrow
    strips = Strips(scalars, index: index, enough: threads)
    scalars.printReduction = { [unowned self] node, scope in
      uniform.contains { $0 === scope } ? printTogether(node, scope) : printAlone(node, scope)
    }
  }

  // MARK: Whole kernels

  func function() -> EmittedKernel {
    let form = form()
    let root = Scope(parent: nil, adding: [])
    let (body, blocks, threads) =
      switch form {
      case .elements(let spread): elements(root, spread)
      case .rows(let owned, let width): rows(root, owned, width)
      }
    let held = strips.members.isEmpty ? "" : "struct KERNEL_NAME_body_held {\n\(strips.members)};\n"
    let text = """
      \(held)APUS_INLINE void KERNEL_NAME_body(
          void *const *buffers, const i64 *params, i64 block, i64 blockCount, u8 *shared) {
      \(scalars.bufferDeclarations("buffers", qualifier: "__restrict__ "))\
      \(scalars.parameterText("params", type: index))\(root.text)\(body)}

      """
    return EmittedKernel(
      text: text, bufferCount: arena.buffers.count, parameters: scalars.parameters, blocks: blocks, threads: threads)
  }

  /// How work is spread.
  private enum Form {
    /// A thread for each point of these variables.
    case elements([LoopVariable])
    /// A group of threads for each point of these variables.
    case rows([LoopVariable], width: Int)
  }

  private func form() -> Form {
    guard let inner = kernel.variables.last else {
      return reductions.isEmpty ? .elements([]) : .rows([], width: width(for: reductions, rest: 1))
    }
    let outermost = reductions.filter { node in
      !scalars.freeVariables(node.expr).contains { arena.variables[$0] != nil && !isLoop($0) }
    }
    let ofRows = outermost.filter { !scalars.freeVariables($0.expr).contains(inner.name) }
    let ofPoints = outermost.filter { scalars.freeVariables($0.expr).contains(inner.name) }
    if !ofRows.isEmpty {
      let owned = kernel.variables.filter { variable in
        ofRows.contains { scalars.freeVariables($0.expr).contains(variable.name) }
      }
      let rest = Dim.product(kernel.variables.filter { !owned.contains($0) }.map(\.extent)).estimate
      return .rows(owned, width: width(for: ofRows, rest: rest))
    }
    if ofPoints.isEmpty { return .elements(kernel.variables) }
    let longest = ofPoints.map { Dim.product($0.variables.map(\.extent)).estimate }.max() ?? 0
    if longest > 16, !scalars.walksAlong(inner, ofPoints), walksAlongThemselves(ofPoints) {
      return .rows(kernel.variables, width: width(for: ofPoints, rest: 1))
    }
    return .elements(
      kernel.variables.filter { variable in
        variable == inner || ofPoints.contains { scalars.freeVariables($0.expr).contains(variable.name) }
      })
  }

  private func isLoop(_ name: String) -> Bool { kernel.variables.contains { $0.name == name } }

  /// Whether some load of the reductions is contiguous in the reduction's own innermost variable.
  private func walksAlongThemselves(_ nodes: [ReductionNode]) -> Bool {
    nodes.contains { node in
      guard let last = node.variables.last else { return false }
      return arena.reachable([node.body]).contains { part in
        guard case .load(_, let index) = arena[part] else { return false }
        return index.unitStride(in: last.name)
      }
    }
  }

  /// Threads for a row: about eight elements each.
  private func width(for nodes: [ReductionNode], rest: Int) -> Int {
    let longest = nodes.map { Dim.product($0.variables.map(\.extent)).estimate }.max() ?? 1
    let wanted = max(longest, rest) / 8
    if wanted > 96 { return wanted > 1024 ? 1024 : wanted > 384 ? 512 : wanted > 192 ? 256 : 128 }
    var width = 1
    while width < min(wanted, 32) { width *= 2 }
    return width
  }

  // MARK: Elements

  private func elements(_ root: Scope, _ spread: [LoopVariable]) -> (String, blocks: Dim, threads: Int) {
    let inside = kernel.variables.filter { !spread.contains($0) }
    let total = Dim.product(spread.map(\.extent))
    var width = 1
    if inside.isEmpty, reductions.isEmpty, let last = spread.last {
      width = strips.width(
        last, values: kernel.stores.map(\.value), stores: kernel.stores, count: total.estimate)
    }
    let own: String
    if width > 1, let last = spread.last {
      let thread = Scope(parent: root, adding: spread.dropLast().map(\.name))
      let strip = strips.open(last, width: width, in: thread)
      scalars.emitStores(strip.inside)
      own = thread.text + strips.text(strip)
    } else {
      let thread = Scope(parent: root, adding: spread.map(\.name))
      var scopes = [thread]
      for variable in inside { scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name])) }
      scalars.emitStores(scopes[scopes.count - 1])
      var loops = ""
      for (variable, own) in zip(inside, scopes.dropFirst()).reversed() {
        loops = scalars.loop(variable, scalars.text(variable.extent, root), type: index, own.text + loops)
      }
      own = thread.text + loops
    }
    let each = Self.threads * width
    let body = """
        const \(index) count = \(scalars.text(total, root));
        for (\(index) o = (\(index))block * \(each) + (\(index))threadIdx.x * \(width); o < count; \
      o += (\(index))blockCount * \(each)) {
          \(index) rest = o;
      \(scalars.decode("rest", spread, root, type: index))\(own)  }

      """
    return (body, Self.blocks(total, each: each), Self.threads)
  }

  private static func blocks(_ units: Dim, each: Int) -> Dim {
    Dim.minimum(units.ceilDivided(by: Dim(each)), Dim(mostBlocks))
  }

  // MARK: Rows

  private func rows(_ root: Scope, _ owned: [LoopVariable], _ width: Int) -> (String, blocks: Dim, threads: Int) {
    self.width = width
    let threads = max(width, width > 32 ? width : Self.threads)
    let each = threads / width
    let rest = kernel.variables.filter { !owned.contains($0) }
    let row = Scope(parent: root, adding: owned.map(\.name))
    uniform = [root, row]
    let elements = heldElements(row, owned, rest) ?? ("", "", rowElements(row, rest, root))
    let count = Dim.product(owned.map(\.extent))
    let declarations = """
        const i32 lane = (i32)threadIdx.x % \(width), group = (i32)threadIdx.x / \(width);
        (void)lane; (void)group;

      """
    // Threads without a row repeat the last one, so that groups of a warp stay together.
    let body = """
        const \(index) count = \(scalars.text(count, root));
      \(elements.first)\
        for (\(index) base = (\(index))block * \(each); base < count; base += (\(index))blockCount * \(each)) {
          const bool isOwn = base + group < count;
          \(index) rest = isOwn ? base + group : count - 1;
      \(scalars.decode("rest", owned, root, type: index))\(elements.ahead)\(row.text)\(elements.own)  }

      """
    root.text = declarations + root.text
    return (body, Self.blocks(count, each: each), threads)
  }

  /// What is stored for a row that its threads hold in registers: what they load before all rows, and before a row's
  /// reductions, so that none of it is waited for twice; and what is stored then.
  private func heldElements(
    _ row: Scope, _ owned: [LoopVariable], _ rest: [LoopVariable]
  ) -> (first: String, ahead: String, own: String)? {
    guard rest.count == 1, let last = rest.first, let count = last.extent.constantValue else { return nil }
    let values = kernel.stores.map(\.value)
    let strip = strips.width(last, values: values, stores: kernel.stores, count: nil)
    let turns = (count + width * strip - 1) / (width * strip)
    let loads = arena.reachable(values).filter { expr in
      if case .load(_, let index) = arena[expr] { index.unitStride(in: last.name) } else { false }
    }
    guard strip > 1, turns <= Self.mostTurns, turns * loads.count <= Self.mostHeld else { return nil }
    let columns = Scope(parent: nil, adding: [last.name])
    let rows = Scope(parent: nil, adding: owned.map(\.name) + [last.name])
    let open = strips.open(last, width: strip, in: row, fetches: (columns, rows))
    scalars.emitStores(open.inside)
    func turn(_ text: String) -> String {
      text.isEmpty
        ? ""
        : """
            APUS_UNROLL for (int turn = 0; turn < \(turns); turn++) {
              const \(index) \(scalars.name(last)) = (lane + turn * \(width)) * \(strip);
              \(strips.members.isEmpty ? "" : "KERNEL_NAME_body_held &held = helds[turn];")
              if (\(scalars.name(last)) < \(count)) {
          \(text)      }
            }

        """
    }
    let helds = strips.members.isEmpty ? "" : "  KERNEL_NAME_body_held helds[\(turns)];\n"
    return (helds + turn(columns.text), turn(rows.text), "    if (isOwn)\n" + turn(strips.text(open)))
  }

  /// What is stored for a row, by the threads of its group.
  private func rowElements(_ row: Scope, _ rest: [LoopVariable], _ root: Scope) -> String {
    guard let last = rest.last else {
      let inner = Scope(parent: row, adding: [])
      scalars.emitStores(inner)
      return "    if (isOwn && lane == 0) {\n\(inner.text)    }\n"
    }
    let count = Dim.product(rest.map(\.extent))
    let values = kernel.stores.map(\.value)
    let strip = strips.width(last, values: values, stores: kernel.stores, count: nil)
    let own: String
    if strip > 1 {
      let around = Scope(parent: row, adding: rest.dropLast().map(\.name))
      let open = strips.open(last, width: strip, in: around)
      scalars.emitStores(open.inside)
      own = around.text + strips.text(open)
    } else {
      let inner = Scope(parent: row, adding: rest.map(\.name))
      scalars.emitStores(inner)
      own = inner.text
    }
    return """
          if (isOwn) for (\(index) l = lane * \(strip); l < \(scalars.text(count, root)); l += \(width * strip)) {
          \(index) rest = l;
      \(scalars.decode("rest", rest, root, type: index))\(own)    }

      """
  }

  // MARK: Reductions

  /// A reduction by one thread.
  private func printAlone(_ node: ReductionNode, _ scope: Scope) -> String {
    let name = scalars.makeName()
    var scopes = [scope]
    for variable in node.variables {
      scopes.append(Scope(parent: scopes[scopes.count - 1], adding: [variable.name]))
    }
    var loops = step(node, scopes[scopes.count - 1], name)
    for (variable, around) in zip(node.variables, scopes).reversed() {
      loops = scalars.loop(variable, scalars.text(variable.extent, around), type: index, loops)
      if around !== scope { loops = around.text + loops }
    }
    scope.text += declaration(node, name) + "    {\n\(loops)    }\n"
    scope.name(node.expr, name)
    return name
  }

  /// A reduction by all threads of a group, each of which knows the result.
  private func printTogether(_ node: ReductionNode, _ scope: Scope) -> String {
    if width == 1 { return printAlone(node, scope) }
    let name = scalars.makeName()
    var strip = 1
    if let last = node.variables.last, !Self.isSearch(node.reduction) {
      strip = strips.width(last, values: [node.body], count: nil)
    }
    let own: String
    if strip > 1, let last = node.variables.last {
      let around = Scope(parent: scope, adding: node.variables.dropLast().map(\.name))
      let open = strips.open(last, width: strip, in: around)
      _ = step(node, open.inside, name)
      own = around.text + strips.text(open)
    } else {
      own = step(node, Scope(parent: scope, adding: node.variables.map(\.name)), name)
    }
    let count = scalars.text(Dim.product(node.variables.map(\.extent)), scope)
    let loops = """
          for (\(index) r\(name) = lane * \(strip); r\(name) < \(count); r\(name) += \(width * strip)) {
            \(index) s\(name) = r\(name);
      \(scalars.decode("s\(name)", node.variables, scope, type: index))\(own)    }

      """
    scope.text += declaration(node, name) + "    {\n\(loops)    }\n" + combination(node, name)
    scope.name(node.expr, name)
    return name
  }

  private static func isSearch(_ reduction: Reduction) -> Bool { reduction == .argmin || reduction == .argmax }

  private func declaration(_ node: ReductionNode, _ name: String) -> String {
    let dtype = arena.type(node.body)
    let (type, start) = (CDialect.scalar(dtype), CDialect.identity(node.reduction, dtype))
    if Self.isSearch(node.reduction) { return "    \(type) \(name)v = \(start);\n    i64 \(name) = -1;\n" }
    return "    \(type) \(name) = \(start);\n"
  }

  /// The statements that take one element into a reduction, which are put into its scope.
  private func step(_ node: ReductionNode, _ scope: Scope, _ name: String) -> String {
    let dtype = arena.type(node.body)
    let value = scalars.emit(node.body, scope)
    if Self.isSearch(node.reduction) {
      scope.text += update(node.reduction, "\(name)v", name, value, "(i64)\(scalars.name(node.variables[0]))")
    } else {
      scope.text +=
        "    \(name) = (\(CDialect.scalar(dtype)))(\(CDialect.combine(node.reduction, name, value, dtype)));\n"
    }
    return scope.text
  }

  /// Takes over a candidate of a search that is better, or as good and earlier.
  private func update(_ reduction: Reduction, _ best: String, _ at: String, _ value: String, _ place: String) -> String
  {
    let sign = reduction == .argmax ? ">" : "<"
    return """
          if (apus_is_better(\(value), \(place), \(best), \(at), \(value) \(sign) \(best))) \
      { \(best) = \(value); \(at) = \(place); }

      """
  }

  /// Brings the threads' parts of a reduction together, in a fixed order.
  private func combination(_ node: ReductionNode, _ name: String) -> String {
    let dtype = arena.type(node.body)
    let type = CDialect.scalar(dtype)
    let isSearch = Self.isSearch(node.reduction)
    func merge(_ value: String, _ place: String) -> String {
      isSearch
        ? update(node.reduction, "\(name)v", name, value, place)
        : "    \(name) = (\(type))(\(CDialect.combine(node.reduction, name, value, dtype)));\n"
    }
    var text = "    APUS_UNROLL\n    for (int m = \(min(width, 32) / 2); m; m >>= 1) {\n"
    text +=
      isSearch
      ? "    const \(type) ov = apus_shuffle_xor(\(name)v, m); const i64 oi = apus_shuffle_xor(\(name), m);\n"
      : "    const \(type) ov = apus_shuffle_xor(\(name), m);\n"
    text += merge("ov", "oi") + "    }\n"
    if width > 32 {
      let stored = isSearch ? "\(name)v" : name
      text += """
            {
            \(type) *const parts = (\(type) *)shared;
            i64 *const places = (i64 *)(shared + \(Self.sharedByteCount / 2));
            __syncthreads();
            if (lane % 32 == 0) { parts[lane / 32] = \(stored); \(isSearch ? "places[lane / 32] = \(name);" : "(void)places;") }
            __syncthreads();
            \(stored) = parts[0];\(isSearch ? " \(name) = places[0];" : "")
            for (int w = 1; w < \(width / 32); w++) {
            const \(type) ov = parts[w];\(isSearch ? " const i64 oi = places[w];" : "")
        \(merge("ov", "oi"))    }
            }

        """
    }
    return text + (isSearch ? "    \(name) = APUS_MAX(\(name), 0L);\n" : "")
  }
}
