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
  /// Handing out a share of the blocks.
  let claim: Double

  init(_ cpu: CPUTarget) { self = cpu.vectorBytes == 64 ? Self.wide : Self.narrow }

  private init(
    multiply: Double, broadcast: Double, load: Double, stream: Double, tile: Double, store: Double, pointer: Double,
    copy: Double, transformIn: Double, transformOut: Double, farByte: Double, claim: Double
  ) {
    (self.multiply, self.broadcast, self.load, self.stream) = (multiply, broadcast, load, stream)
    (self.tile, self.store, self.pointer, self.copy) = (tile, store, pointer, copy)
    (self.transformIn, self.transformOut, self.farByte, self.claim) = (transformIn, transformOut, farByte, claim)
  }

  /// With vectors of 64 bytes.
  private static let wide = CPUCosts(
    multiply: 0.106, broadcast: 0.054, load: 0.072, stream: 0.15, tile: 5, store: 2.3, pointer: 2.0, copy: 0.11,
    transformIn: 1.5, transformOut: 3.4, farByte: 0.016, claim: 570)

  /// With vectors of 32 bytes or less.
  private static let narrow = CPUCosts(
    multiply: 0.073, broadcast: 0.14, load: 0, stream: 0.35, tile: 2, store: 1.4, pointer: 2.0, copy: 0.33,
    transformIn: 0.47, transformOut: 1.5, farByte: 0.0132, claim: 900)
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
  /// Bytes of weights, which all blocks together read once.
  var weightBytes = 0.0
  /// Blocks that the work is divided into.
  var blocks = 1
  var launches = 1.0

  /// Cores that a launch is reckoned to run on.
  static let cores = 2
  private static let waiting = 0.1

  func microseconds(_ costs: CPUCosts) -> Double {
    var sum = products * costs.multiply + broadcasts * costs.broadcast + loads * costs.load + streams * costs.stream
    sum += tiles * costs.tile + stores * costs.store + pointers * costs.pointer + copies * costs.copy
    sum += transformedInputs * costs.transformIn + transformedResults * costs.transformOut
    let shares = Self.shares(of: blocks)
    let handing = Double(shares.count) * costs.claim / Double(Self.cores) + (launches - 1) * 2 * costs.claim
    // Cores are never quite alike: those that are done first wait for a part of a block.
    let waiting = blocks > 1 ? Self.waiting / Double(blocks) : 0
    return (sum * (shares.largest + waiting) + weightBytes * costs.farByte + handing) / 1000
  }

  /// In how many shares the pool hands out blocks, and what part of them the busiest core gets.
  static func shares(of blocks: Int) -> (count: Int, largest: Double) {
    var left = max(blocks, 1)
    var taken = [Int](repeating: 0, count: cores)
    var count = 0
    while left > 0 {
      let share = max(1, left / (2 * cores))
      left -= share
      count += 1
      let core = taken.indices.min { taken[$0] < taken[$1] } ?? 0
      taken[core] += share
    }
    return (count, Double(taken.max() ?? 1) / Double(max(blocks, 1)))
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
    let tiles = sizes.groups * high * wide
    let own = sizes.rows / high
    var work = KernelWork()
    let wanted = (2 * sizes.groups * sizes.rows * Double(sizes.columns) * sizes.depth / Double(grain.operations))
    work.blocks = Int(min(max(wanted.rounded(.up), 1), tiles, 64))
    let steps = tiles * sizes.depth
    if own < 4 {
      work.streams = steps * Double(vectors)
    } else {
      work.loads = steps * Double(vectors)
    }
    work.products = steps * own * Double(vectors)
    work.broadcasts = steps * own
    work.tiles = tiles
    work.stores = sizes.groups * sizes.rows * wide * Double(vectors)
    // Blocks that divide the panels of a chunk of rows each set up all of its rows.
    let chunks = max(1, (high * Double(rows) / sizes.rowsPerChunk).rounded(.up)) * sizes.groups
    let repeats = max(1, min(wide, Double(work.blocks) / chunks))
    work.pointers = sizes.groups * sizes.rows * sizes.pointersPerRow * repeats
    work.copies = sizes.groups * sizes.rows * sizes.copiesPerRow * repeats
    work.weightBytes = 4 * sizes.groups * sizes.depth * Double(sizes.columns)
    return work
  }
}
