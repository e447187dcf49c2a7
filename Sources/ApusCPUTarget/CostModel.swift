/// What parts of kernels take on one core of a class of machines, in nanoseconds.
///
/// Fitted to what the tuner measured of the regions of several models (`docs/performance-log.md`), two cores at work. Figures say
/// which way is faster, not how long a machine takes.
struct CPUCosts {
  /// Two vectors multiplied and added to a sum in a register.
  let multiply: Double
  /// An element of the left side brought into a register, for the row that it belongs to.
  let broadcast: Double
  /// A vector of the right side brought into a register.
  let load: Double
  /// The same where so few rows use it that loads are all there is to wait for.
  let stream: Double
  /// A block of registers: its call, and what is looked up for it.
  let tile: Double
  /// A vector of the result on its way through the epilogue.
  let store: Double
  /// A pointer to where a tap of a row lies.
  let pointer: Double
  /// An element copied, so that those of a row lie together.
  let copy: Double
  /// A vector of transformed input, and of what is transformed back.
  let transformIn: Double
  let transformOut: Double
  /// A byte of weights on its way from memory, for all cores together.
  let farByte: Double
  /// A vector of channels of a block of pixels that a window slides over: where its rows begin, and its sums on their way out.
  let column: Double
  /// A vector that a core's first cache has held and its second still does.
  let again: Double
  /// A vector of memory that nobody has used lately.
  let touch: Double
  /// A vector written and read again that a core's second cache has no room for.
  let spill: Double
  /// A piece of a row by itself, after which others of the tensor come.
  let piece: Double
  /// A vector that goes through a function such as an exponential while nothing else is worked on.
  let function: Double
  /// A step of a sum that waits for the one before, and one of several sums that are added up at the end.
  let chain: Double
  let fold: Double
  /// A vector of activations that comes over from another core: they are with the one that launches, mostly.
  let bring: Double
  /// Handing out a share of the blocks.
  let claim: Double
  /// A launch more than one.
  let launch: Double
  /// By what share other cores are slower than the one that launches, which does not wait for them to begin.
  let waiting: Double

  init(_ cpu: CPUTarget) { self = cpu.vectorBytes == 64 ? Self.wide : Self.narrow }

  private init(
    multiply: Double, broadcast: Double, load: Double, stream: Double, tile: Double, store: Double, pointer: Double,
    copy: Double, transformIn: Double, transformOut: Double, farByte: Double, column: Double, again: Double,
    touch: Double,
    spill: Double, piece: Double, function: Double, chain: Double, fold: Double, bring: Double, claim: Double,
    launch: Double, waiting: Double
  ) {
    (self.multiply, self.broadcast, self.load, self.stream) = (multiply, broadcast, load, stream)
    (self.tile, self.store, self.pointer, self.copy) = (tile, store, pointer, copy)
    (self.transformIn, self.transformOut, self.farByte, self.column) = (transformIn, transformOut, farByte, column)
    (self.again, self.touch, self.spill, self.piece) = (again, touch, spill, piece)
    (self.function, self.chain, self.fold, self.bring) = (function, chain, fold, bring)
    (self.claim, self.launch, self.waiting) = (claim, launch, waiting)
  }

  /// With vectors of 64 bytes.
  private static let wide = CPUCosts(
    multiply: 0.112, broadcast: 0.053, load: 0.078, stream: 0.2, tile: 4.3, store: 2.2, pointer: 1.7, copy: 0.046,
    transformIn: 1.2, transformOut: 2.4, farByte: 0.013, column: 19, again: 0.4, touch: 2, spill: 0.36, piece: 4.2,
    function: 1.5, chain: 1, fold: 0.45, bring: 0.41, claim: 150, launch: 1800, waiting: 0.03)

  /// With vectors of 32 bytes or less.
  private static let narrow = CPUCosts(
    multiply: 0.071, broadcast: 0.13, load: 0.02, stream: 0.26, tile: 1.9, store: 1.5, pointer: 1.6, copy: 0.23,
    transformIn: 0.49, transformOut: 1.5, farByte: 0.009, column: 11, again: 0.093, touch: 0.67, spill: 0.11,
    piece: 4.2,
    function: 0.75, chain: 1, fold: 0.45, bring: 0.16, claim: 260, launch: 1400, waiting: 0.03)
}

/// How much of what a way to compute a region does, for its cost.
struct KernelWork {
  var products = 0.0
  var broadcasts = 0.0
  var loads = 0.0
  var streams = 0.0
  var tiles = 0.0
  var stores = 0.0
  var pointers = 0.0
  var copies = 0.0
  var transformedInputs = 0.0
  var transformedResults = 0.0
  var columns = 0.0
  var again = 0.0
  var touched = 0.0
  var spilled = 0.0
  var pieces = 0.0
  var functions = 0.0
  var chained = 0.0
  var folds = 0.0
  /// Bytes of weights, which all blocks together read once.
  var weightBytes = 0.0
  /// Vectors of activations that are read and written.
  var activations = 0.0
  /// Blocks that the work is divided into.
  var blocks = 1
  var launches = 1.0

  /// Cores that a launch is reckoned to run on.
  static let cores = 2
  /// Bytes of a core's first cache, and of its second as far as what a block works on is to stay there.
  private static let firstCache = 48.0 * 1024
  private static let secondCache = 512.0 * 1024

  /// The share of so many bytes that are gone from a core's first or second cache when it goes through all of them again.
  static func beyondFirst(_ bytes: Double) -> Double { max(0, 1 - firstCache / max(bytes, 1)) }
  static func beyondSecond(_ bytes: Double) -> Double { max(0, 1 - secondCache / max(bytes, 1)) }

  func microseconds(_ costs: CPUCosts) -> Double {
    var sum = products * costs.multiply + broadcasts * costs.broadcast + loads * costs.load + streams * costs.stream
    sum += tiles * costs.tile + stores * costs.store + pointers * costs.pointer + copies * costs.copy
    sum += transformedInputs * costs.transformIn + transformedResults * costs.transformOut
    sum += columns * costs.column + again * costs.again + touched * costs.touch + spilled * costs.spill
    sum += pieces * costs.piece + functions * costs.function + chained * costs.chain + folds * costs.fold
    let elsewhere = sum * (1 + costs.waiting) + activations * costs.bring
    let span = Self.span(of: blocks, here: sum, elsewhere: elsewhere, claim: costs.claim)
    return (span + weightBytes * costs.farByte + (launches - 1) * costs.launch) / 1000
  }

  /// What a launch takes until the last of its blocks is done, in the shares that the pool hands out: whoever is free takes the next.
  ///
  /// - Parameters:
  ///   - here: what all blocks take on the core that launches.
  ///   - elsewhere: what they take on another.
  private static func span(of blocks: Int, here: Double, elsewhere: Double, claim: Double) -> Double {
    if blocks <= 1 { return here }
    var left = blocks
    var busy = [Double](repeating: 0, count: cores)
    while left > 0 {
      let share = max(1, left / (2 * cores))
      left -= share
      let core = busy.indices.min { busy[$0] < busy[$1] } ?? 0
      busy[core] += claim + (core == 0 ? here : elsewhere) * Double(share) / Double(blocks)
    }
    return busy.max() ?? here
  }

  /// Adds what a part of the same kernel does.
  mutating func add(_ part: KernelWork) {
    products += part.products
    broadcasts += part.broadcasts
    loads += part.loads
    streams += part.streams
    tiles += part.tiles
    stores += part.stores
    columns += part.columns
    again += part.again
  }
}

/// Sizes of a product that cost is reckoned with.
struct ProductSizes {
  var groups = 1.0
  var rows: Double
  var columns: Int
  var depth: Double
  /// Pointers to, or elements copied for, each row where that is needed at all.
  var pointersPerRow = 0.0
  var copiesPerRow = 0.0
  /// Rows of registers that pointers are set up for at once.
  var rowsPerChunk = Double.infinity
}

extension GemmBlock {
  /// What a product does by this block, in blocks of a grain.
  func work(_ sizes: ProductSizes, _ grain: Grain) -> KernelWork {
    let high = max(1, (sizes.rows / Double(rows)).rounded(.up))
    let wide = Double(max(1, (sizes.columns + columns - 1) / columns))
    // The last panel's vectors beyond the columns are left out, which is so where the epilogue is light.
    let allVectors = Double(max(1, (sizes.columns + lanes - 1) / lanes))
    let tiles = sizes.groups * high * wide
    let own = sizes.rows / high
    var work = KernelWork()
    let wanted = (2 * sizes.groups * sizes.rows * Double(sizes.columns) * sizes.depth / Double(grain.operations))
    work.blocks = Int(min(max(wanted.rounded(.up), 1), tiles, 64))
    let steps = tiles * sizes.depth
    let loads = steps * allVectors / wide
    if own < 4 {
      work.streams = loads
    } else {
      work.loads = loads
    }
    work.products = loads * own
    work.broadcasts = steps * own
    work.tiles = tiles
    work.stores = sizes.groups * sizes.rows * allVectors
    // Blocks that divide the panels of a chunk of rows each set up all of its rows.
    let chunks = max(1, (high * Double(rows) / sizes.rowsPerChunk).rounded(.up)) * sizes.groups
    let repeats = max(1, min(wide, Double(work.blocks) / chunks))
    work.pointers = sizes.groups * sizes.rows * sizes.pointersPerRow * repeats
    work.copies = sizes.groups * sizes.rows * sizes.copiesPerRow * repeats
    work.weightBytes = 4 * sizes.groups * sizes.depth * Double(sizes.columns)
    return work
  }
}
