import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A convolution by transforms: its input is brought to points tile by tile, at each point there is a product, and results are brought
/// back from all points of a tile.
struct TransformedTiles {
  let block: GemmBlock
  let channels: Int
  let outputs: Int
  let points: Int
  /// Tiles of all images; of one, and images to reckon with.
  let tiles: Dim
  let tilesOfImage: Dim
  let images: Int
  /// Most tiles that are worked on together, as the text has it.
  let chunk: Int

  private var panels: Int { (outputs + block.columns - 1) / block.columns }

  /// What it does, in blocks of a grain, for so many pixels of results.
  func work(_ grain: Grain, results: Double) -> KernelWork {
    let tiles = Double(images * tilesOfImage.estimate)
    let (panels, vectors, depth) = (Double(panels), Double(block.vectors), Double(channels))
    let chunks = max(1, (tiles / Double(chunk)).rounded(.up))
    let parts = max(1, (tiles / chunks / Double(block.rows)).rounded(.up))
    var work = KernelWork()
    let wanted = 2 * tiles * Double(points * channels * outputs) / Double(grain.operations)
    work.blocks = Int(min(max(wanted.rounded(.up), 1), chunks * panels, 64))
    work.tiles = chunks * parts * panels * Double(points)
    work.products = tiles * panels * Double(points) * depth * vectors
    work.broadcasts = tiles * panels * Double(points) * depth
    work.loads = work.tiles * depth * vectors
    // Blocks that divide the panels of a chunk transform its input each.
    let repeats = max(1, min(panels, Double(work.blocks) / chunks))
    work.transformedInputs = tiles * Double(points) * depth / Double(block.lanes) * repeats
    work.transformedResults = tiles * Double(points) * panels * vectors
    work.stores = results * panels * vectors
    work.weightBytes = 4 * Double(points * channels * outputs)
    return work
  }

  /// Emits a call of the text in blocks of a grain.
  func emit(
    _ call: TemplateCall, _ region: AnchorRegion, _ grain: Grain, tactic: String, into builder: inout StepBuilder
  ) {
    let work = 2 * tiles * Dim(points * channels * outputs)
    let units = tiles.ceilDivided(by: Dim(chunk)) * Dim(panels)
    let blocks = Dim.maximum(work.ceilDivided(by: Dim(grain.operations)), 1)
    call.emit(
      region, blocks: Dim.minimum(Dim.minimum(blocks, units), 64),
      scratchBytes: Dim(chunk * points * (channels + block.columns) * 4), tactic: grain.name(tactic), into: &builder)
  }

  /// `[O, taps, C]` to `[panel][point][C][columns of a panel]`, zero beyond the last column.
  ///
  /// - Parameter transform: Puts each point of one output and channel, from its weights by tap.
  func pack(
    _ weights: HostTensor, taps: Int, _ transform: (_ weight: (Int) -> Double, _ put: (Int, Double) -> Void) -> Void
  ) -> HostTensor {
    let (width, count, points) = (block.columns, channels, points)
    let size = panels * points * count * width
    let storage = HostStorage(byteCount: 4 * size)
    let to = storage.base.bindMemory(to: Float.self, capacity: size)
    to.initialize(repeating: 0, count: size)
    weights.withUnsafeBytes { bytes in
      let from = bytes.bindMemory(to: Float.self)
      for output in 0..<outputs {
        let target = to + output / width * points * count * width + output % width
        for channel in 0..<count {
          transform(
            { Double(from[(output * taps + $0) * count + channel]) },
            { target[($0 * count + channel) * width] = Float($1) })
        }
      }
    }
    return HostTensor(dtype: .f32, shape: [size], storage: storage)
  }
}
