import ApusCompiler
import ApusCore
import ApusKernel

/// Prints loops over strips of neighbouring elements, which one thread loads and stores with single instructions.
final class Strips {
  typealias Scope = ScalarEmitter.Scope

  /// Elements of a loop variable that a thread works on together.
  final class Strip {
    let variable: LoopVariable
    let width: Int
    /// What is done once for the strip.
    let around: Scope
    /// What is done for each element.
    let inside: Scope
    fileprivate let element: String
    fileprivate let fetches: Fetches?
    fileprivate var loaded: [Access: String] = [:]
    fileprivate var after = ""

    fileprivate init(
      _ variable: LoopVariable, _ width: Int, _ around: Scope, _ inside: Scope, element: String, fetches: Fetches?
    ) {
      self.variable = variable
      self.width = width
      self.around = around
      self.inside = inside
      self.element = element
      self.fetches = fetches
    }
  }

  fileprivate struct Access: Hashable {
    let buffer: Int
    let index: Dim
  }

  /// Bytes that one instruction moves.
  private static let byteCount = 16
  private let scalars: ScalarEmitter
  /// The type of indices.
  private let index: String
  /// Strips that give every thread of a GPU something to do; where there would be fewer, they are made narrower.
  private let enough: Int
  private var strips: [ObjectIdentifier: Strip] = [:]

  /// A buffer whose elements are in an array by their place in the strip, and no memory; `group` for each element of it.
  private let tile: (buffer: Int, array: String, group: Int)?

  /// Where loads of a strip are printed, apart from what computes with them: statements that fill a `held`, those that depend on
  /// the strip's own variable alone by themselves.
  typealias Fetches = (columns: Scope, rows: Scope)
  /// Members of the `held` of the strip that has fetches.
  private(set) var members = ""

  init(
    _ scalars: ScalarEmitter, index: String, enough: Int, tile: (buffer: Int, array: String, group: Int)? = nil
  ) {
    self.scalars = scalars
    self.tile = tile
    self.enough = enough
    self.index = index
    scalars.printLoad = { [unowned self] buffer, index, scope in load(buffer, index, scope) }
    scalars.printStore = { [unowned self] store, value, scope in self.store(store, value, scope) }
  }

  /// Begins a strip within a scope; its elements are printed into ``Strip/inside``.
  func open(_ variable: LoopVariable, width: Int, in scope: Scope, fetches: Fetches? = nil) -> Strip {
    let around = Scope(parent: scope, adding: [])
    let inside = Scope(parent: around, adding: [variable.name])
    let strip = Strip(variable, width, around, inside, element: "e\(strips.count)", fetches: fetches)
    strips[ObjectIdentifier(inside)] = strip
    return strip
  }

  /// The statements of a strip whose first element is what the variable's counter holds.
  func text(_ strip: Strip) -> String {
    let name = scalars.name(strip.variable)
    return """
      \(strip.around.text)    const \(index) v\(name) = \(name);
          APUS_UNROLL for (int \(strip.element) = 0; \(strip.element) < \(strip.width); \(strip.element)++) {
          const \(index) \(name) = v\(name) + \(strip.element);
      \(strip.inside.text)    }
      \(strip.after)
      """
  }

  // MARK: Width

  /// How many neighbouring elements a thread should work on: 1 where nothing is gained.
  ///
  /// - Parameters:
  ///   - roots: the expressions computed for each element, and where they are stored.
  ///   - count: elements in all, which are spread over threads; nil when there are enough threads anyway.
  func width(
    _ variable: LoopVariable, values: [Expr], stores: [Kernel.Store] = [], count: Int?
  ) -> Int {
    let arena = scalars.arena
    var accesses = stores.map { ($0.buffer, $0.index) }
    for expr in arena.reachable(values) {
      if case .load(let buffer, let index) = arena[expr] { accesses.append((buffer, index)) }
    }
    var width = 16
    while width > 1 {
      defer { width /= 2 }
      if variable.extent.split(by: Dim(width)).rest != 0 { continue }
      if let count, count / width < enough { continue }
      let sizes = accesses.filter { isWhole($0.1, variable, width) }.map { arena.buffers[$0.0].byteCount }
      // No element needs more than one instruction, but for the widest of mixed types.
      guard let least = sizes.min() else { continue }
      if least * width <= Self.byteCount { return width }
    }
    return 1
  }

  /// Whether elements at an index are neighbours in memory, and the first of each strip is aligned to the strip.
  private func isWhole(_ index: Dim, _ variable: LoopVariable, _ width: Int) -> Bool {
    guard index.unitStride(in: variable.name) else { return false }
    for name in ExprArena.locals(of: index) {
      if let expr = ExprArena.dynamicExpr(name), scalars.freeVariables(expr).contains(variable.name) { return false }
    }
    let first = index.substituting { $0.name == variable.name ? Dim(width) * Dim($0) : nil }
    return first.split(by: Dim(width)).rest == 0
  }

  // MARK: Accesses

  private func load(_ buffer: Int, _ index: Dim, _ scope: Scope) -> String? {
    guard let strip = strips[ObjectIdentifier(scope)] else { return nil }
    if let tile, tile.buffer == buffer {
      if tile.group == 1 { return "\(tile.array)[\(strip.element)]" }
      return "\(tile.array)[\(strip.element) * \(tile.group) + \(index.split(by: Dim(tile.group)).rest)]"
    }
    guard isWhole(index, strip.variable, strip.width) else { return nil }
    let dtype = scalars.arena.buffers[buffer]
    let access = Access(buffer: buffer, index: index)
    var name: String
    if let known = strip.loaded[access] {
      name = known
    } else {
      name = scalars.makeName()
      strip.loaded[access] = name
      let type = "const apus_vec<\(CDialect.storage(dtype)), \(strip.width)>"
      if let fetches = strip.fetches, ExprArena.locals(of: index).allSatisfy({ ExprArena.dynamicExpr($0) == nil }) {
        members += "  apus_vec<\(CDialect.storage(dtype)), \(strip.width)> \(name);\n"
        let isOfColumns =
          ExprArena.locals(of: index).allSatisfy { $0 == strip.variable.name }
          && !scalars.kernel.stores.contains { $0.buffer == buffer }
        let scope = isOfColumns ? fetches.columns : fetches.rows
        scope.text +=
          "    held.\(name) = *(\(type) *)(\(scalars.bufferText(buffer)) + \(scalars.text(index, scope)));\n"
        name = "held.\(name)"
        strip.loaded[access] = name
      } else {
        let address = "\(scalars.bufferText(buffer)) + \(scalars.text(index, strip.around))"
        strip.around.text += "    \(type) \(name) = *(\(type) *)(\(address));\n"
      }
    }
    return CDialect.load("\(name).e", strip.element, dtype)
  }

  private func store(_ store: Kernel.Store, _ value: String, _ scope: Scope) -> Bool {
    guard let strip = strips[ObjectIdentifier(scope)], isWhole(store.index, strip.variable, strip.width) else {
      return false
    }
    let dtype = scalars.arena.buffers[store.buffer]
    let name = scalars.makeName()
    let address = "\(scalars.bufferText(store.buffer)) + \(scalars.text(store.index, strip.around))"
    // 16-bit floats are made two at a time.
    let isHalf = dtype == .f16 || dtype == .bf16
    let type = isHalf ? "float" : "alignas(16) \(CDialect.storage(dtype))"
    strip.around.text += "    \(type) \(name)[\(strip.width)];\n"
    scope.text += "    \(name)[\(strip.element)] = \(isHalf ? value : CDialect.stored(value, dtype));\n"
    strip.after += "    apus_store\(isHalf ? "_\(dtype)" : "")(\(address), \(name));\n"
    return true
  }
}
