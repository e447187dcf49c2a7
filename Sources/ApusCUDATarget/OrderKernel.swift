import ApusCompiler
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan

/// The first elements of lines in order: short lines are sorted in shared memory, the first few of long ones are chosen by
/// digits, and else lines are sorted by digits in memory.
struct OrderKernel: OperationKernel {
  let operations = ["top_k"]

  /// Longest line that is sorted in shared memory when few of it are wanted, and when many are.
  private static let (shortLine, longestLine) = (512, 4096)
  /// Most elements that are chosen from a line.
  private static let mostChosen = 1024
  /// Elements of a part that a block chooses from by itself.
  private static let part = 8192

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op is TopK else { return "it is no top_k" }
    let type = graph.tensorType(node.inputs[0])
    return Ordering(type.dtype, falls: false) == nil ? "elements are \(type.dtype)" : nil
  }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    let type = builder.graph.tensorType(node.inputs[0])
    guard let op = node.op as? TopK, let ordering = Ordering(type.dtype, falls: op.largest) else { return }
    let outer = Dim.product(type.shape[..<op.axis])
    let inner = Dim.product(type.shape[(op.axis + 1)...])
    let lines = Lines(count: outer * inner, length: type.shape[op.axis], first: op.k, inner: inner)
    let slots = [builder.slot(node.inputs[0])] + node.outputs.map { builder.allocate($0) }
    emit(node, ordering, lines, slots, into: &builder)
  }

  /// Sorts lines of a type, the largest first, into slots of values and of the places they were at, i64.
  static func sort(
    _ node: Node, _ dtype: DType, _ lines: Lines, _ slots: (elements: Int, values: Int, places: Int),
    into builder: inout StepBuilder
  ) {
    guard let ordering = Ordering(dtype, falls: true) else { return }
    OrderKernel().emit(node, ordering, lines, [slots.elements, slots.values, slots.places], into: &builder)
  }

  private func emit(
    _ node: Node, _ ordering: Ordering, _ lines: Lines, _ slots: [Int], into builder: inout StepBuilder
  ) {
    let (length, first) = (lines.length.range.upper, lines.first.range.upper)
    if length <= Self.shortLine || length <= Self.longestLine && first > 256 {
      sortShared(node, ordering, lines, slots, into: &builder)
    } else if first <= Self.mostChosen {
      choose(node, ordering, lines, slots, into: &builder)
    } else {
      RadixSort(ordering: ordering, lines: lines)
        .emit(node, elements: slots[0], results: (slots[1], slots[2]), into: &builder)
    }
  }

  private static func power(above count: Int) -> Int {
    var power = 1
    while power < count { power *= 2 }
    return power
  }

  private func sortShared(
    _ node: Node, _ ordering: Ordering, _ lines: Lines, _ slots: [Int], into builder: inout StepBuilder
  ) {
    let longest = Self.power(above: max(lines.length.range.upper, 1))
    let capacity = max(1024, longest)
    let threads = capacity > 1024 ? 512 : 256
    OperationCall(
      texts: [CUDAText.order],
      call: """
          apus_sort_lines<\(ordering.type), \(capacity), \(threads)>(\(lines.text), (const \(ordering.raw) *)b[0], \
        (\(ordering.raw) *)b[1], (i64 *)b[2], block, blockCount, shared);

        """,
      buffers: slots, parameters: lines.parameters, units: lines.count.ceilDivided(by: Dim(capacity / longest)),
      threads: threads, sharedByteCount: capacity * ordering.itemByteCount
    ).emit(node, tactic: "sort \(longest)", work: lines.work, into: &builder)
  }

  private func choose(
    _ node: Node, _ ordering: Ordering, _ lines: Lines, _ slots: [Int], into builder: inout StepBuilder
  ) {
    let capacity = Self.power(above: max(lines.first.range.upper, 1))
    let shared = capacity * ordering.itemByteCount + 1024 + 64
    let raw = ordering.raw
    // One block for a line is enough where lines are short or many.
    let isWhole = lines.length.estimate <= 2 * Self.part || lines.count.estimate >= 264
    var buffers = slots
    var arguments = "0, (const \(raw) *)b[0], 0, 0"
    if !isWhole {
      let parts = lines.length.ceilDivided(by: Dim(Self.part))
      let kept = lines.count * parts * lines.first
      buffers += [
        builder.addTemporary(ordering.keyByteCount == 8 ? .u64 : .u32, kept), builder.addTemporary(.u32, kept),
      ]
      OperationCall(
        texts: [CUDAText.order],
        call: """
            apus_choose_parts<\(ordering.type), \(capacity), 1024>(\(lines.text), p[4], \(Self.part), (const \(raw) *)b[0], \
          (\(ordering.key) *)b[1], (u32 *)b[2], block, blockCount, shared);

          """,
        buffers: [slots[0], buffers[3], buffers[4]], parameters: lines.parameters + [parts],
        units: lines.count * parts, threads: 1024, sharedByteCount: shared
      ).emit(node, tactic: "choose \(capacity) of parts", work: lines.work, into: &builder)
      arguments = "p[4], (const \(raw) *)b[0], (const \(ordering.key) *)b[3], (const u32 *)b[4]"
    }
    let held = lines.length.ceilDivided(by: Dim(Self.part)) * lines.first
    OperationCall(
      texts: [CUDAText.order],
      call: """
          apus_choose_lines<\(ordering.type), \(!isWhole), \(capacity), 1024>(\(lines.text), \(arguments), (\(raw) *)b[1], \
        (i64 *)b[2], block, blockCount, shared);

        """,
      buffers: buffers, parameters: lines.parameters + (isWhole ? [] : [held]), units: lines.count, threads: 1024,
      sharedByteCount: shared
    ).emit(node, tactic: "choose \(capacity)", work: lines.work, into: &builder)
  }
}

/// Lines along an axis of a tensor, of which the first few in order are wanted.
struct Lines {
  var count: Dim
  var length: Dim
  var first: Dim
  /// Elements between neighbours of a line.
  var inner: Dim

  var parameters: [Dim] { [count, length, first, inner] }
  /// The lines as texts take them, from the first parameters.
  var text: String { "{p[0], p[1], p[2], p[3]}" }
  var work: Dim { count * length }
}

/// How elements of a type are ordered, as texts name it.
struct Ordering {
  /// The C type that holds an element's bits.
  let raw: String
  /// The C type of keys.
  let key: String
  let keyByteCount: Int
  let bitCount: Int
  /// The ordering's type in C.
  let type: String

  /// Nil for types that have no such order.
  init?(_ dtype: DType, falls: Bool) {
    var infinity = "0"
    switch dtype {
    case .f16: infinity = "0x7c00"
    case .bf16: infinity = "0x7f80"
    case .f32: infinity = "0x7f800000"
    case .f64: infinity = "0x7ff0000000000000"
    default: if dtype.isFloat || dtype == .string { return nil }
    }
    bitCount = 8 * dtype.byteCount
    raw = "u\(bitCount)"
    keyByteCount = bitCount == 64 ? 8 : 4
    key = "u\(8 * keyByteCount)"
    type = "apus_ordering<\(raw), \(infinity), \(dtype.isSignedInteger), \(falls)>"
  }

  var itemByteCount: Int { 2 * keyByteCount }
}

/// The launches that sort lines by digits.
struct RadixSort {
  let ordering: Ordering
  let lines: Lines
  /// Digits that keys differ in, where not in all.
  var digits: Int?

  private static let tile = 4096

  /// Sorts elements into results.
  func emit(
    _ node: Node, elements: Int, results: (values: Int, positions: Int), into builder: inout StepBuilder
  ) {
    let passes = digits ?? ordering.bitCount / 8
    _ = emit(node, elements: elements, passes: passes, results: results, into: &builder)
  }

  /// Sorts elements into slots of keys and of the places they were at.
  func emitItems(_ node: Node, elements: Int, into builder: inout StepBuilder) -> (keys: Int, places: Int) {
    emit(node, elements: elements, passes: digits ?? ordering.bitCount / 8, results: nil, into: &builder)
  }

  private func emit(
    _ node: Node, elements: Int, passes: Int, results: (values: Int, positions: Int)?, into builder: inout StepBuilder
  ) -> (keys: Int, places: Int) {
    let size = lines.count * lines.length
    let tiles = lines.length.ceilDivided(by: Dim(Self.tile))
    let counts = builder.addTemporary(.u32, lines.count * 256 * tiles)
    let totals = builder.addTemporary(.u32, lines.count * 256)
    func makeItems() -> (keys: Int, places: Int) {
      (builder.addTemporary(ordering.keyByteCount == 8 ? .u64 : .u32, size), builder.addTemporary(.u32, size))
    }
    var from = (keys: counts, places: counts)
    var spare: (keys: Int, places: Int)?
    let (raw, key) = (ordering.raw, ordering.key)
    let source = "{(const \(raw) *)b[0], (const \(key) *)b[1], (const u32 *)b[2]}"
    for pass in 0..<passes {
      let isFirst = pass == 0
      let isLast = pass == passes - 1 && results != nil
      func emit(_ call: String, _ buffers: [Int], _ units: Dim, _ threads: Int, _ shared: Int) {
        OperationCall(
          texts: [CUDAText.order, CUDAText.scan, CUDAText.radix], call: "  \(call), block, blockCount, shared);\n",
          buffers: buffers,
          parameters: lines.parameters, units: units, threads: threads, sharedByteCount: shared
        ).emit(node, tactic: "digits \(8 * pass)", into: &builder)
      }
      let inputs = [elements, from.keys, from.places]
      emit(
        "apus_radix_count<\(ordering.type), \(isFirst), \(8 * pass)>(\(lines.text), \(source), (u32 *)b[3]",
        inputs + [counts], lines.count * tiles, 512, 1024)
      emit(
        "apus_radix_add(p[0], APUS_CEIL(p[1], APUS_RADIX_TILE), (u32 *)b[0], (u32 *)b[1]", [counts, totals],
        lines.count * 256, 256, 256)
      let to = isLast ? (keys: counts, places: counts) : spare ?? makeItems()
      let target =
        isLast
        ? "{0, 0, (\(raw) *)b[5], (i64 *)b[6]}" : "{(\(key) *)b[5], (u32 *)b[6], 0, 0}"
      emit(
        """
        apus_radix_move<\(ordering.type), \(isFirst), \(isLast), \(8 * pass)>(\(lines.text), \(source), \
        (const u32 *)b[3], (const u32 *)b[4], \(target)
        """,
        inputs + [counts, totals] + (isLast ? [results?.values ?? 0, results?.positions ?? 0] : [to.keys, to.places]),
        lines.count * tiles, 512, Self.tile * (ordering.keyByteCount + 4) + 16 * 1024 + 2048 + 256)
      spare = isFirst ? nil : from
      from = to
    }
    return from
  }
}
