import ApusCompiler
import ApusCore
import ApusPlan

/// A configuration of the convolution text for warpgroups.
struct WarpgroupConvolution: Hashable {
  var m: Int
  var n: Int
  var consumers: Int
  var stages: Int
  var isPingPong = false
  var split = 1
  var residentBlocks = 1

  var blockRows: Int { m * (isPingPong ? 1 : consumers) }
  var threads: Int { consumers * 128 + (consumers > 1 ? 128 : 32) }
  var sharedByteCount: Int {
    let out = split > 1 ? blockRows * (n + 8) * 4 : consumers * 4 * 4096
    return stages * (blockRows + n) * 128 + out + 256
  }
  /// Blocks, or clusters of them, that an H200 holds at once.
  var resident: Int { WarpgroupTile.resident(split) * residentBlocks }
  var name: String {
    "conv wgmma \(blockRows)x\(n)\(isPingPong ? " pairs" : m > 64 && consumers == 1 ? " alone" : "")"
      + (split > 1 ? " split \(split)" : "")
  }

  /// The configurations that ``choose(_:)`` takes one of, and some between them.
  static let all: [WarpgroupConvolution] =
    [
      WarpgroupConvolution(m: 64, n: 32, consumers: 1, stages: 8),
      WarpgroupConvolution(m: 64, n: 64, consumers: 1, stages: 4, residentBlocks: 3),
      WarpgroupConvolution(m: 128, n: 64, consumers: 1, stages: 4, residentBlocks: 2),
      WarpgroupConvolution(m: 64, n: 64, consumers: 2, stages: 6),
      WarpgroupConvolution(m: 64, n: 128, consumers: 2, stages: 6),
      WarpgroupConvolution(m: 128, n: 128, consumers: 2, stages: 5, isPingPong: true),
    ]
    + [2, 4, 8].flatMap { split in
      [
        WarpgroupConvolution(m: 64, n: 32, consumers: 1, stages: 6, split: split),
        WarpgroupConvolution(m: 64, n: 64, consumers: 1, stages: 6, split: split),
      ]
    }

  /// The configuration that was fastest on problems of such sizes; nil where the text cannot compute the problem.
  static func choose(_ problem: ConvProblem) -> WarpgroupConvolution? {
    guard problem.dtype == .f16 || problem.dtype == .bf16, problem.groupChannels % 8 == 0,
      problem.groups == 1 || problem.groupChannels % 64 == 0, problem.images.range.lower > 0,
      problem.isPlain || problem.fitsWindowMap
    else { return nil }
    let (places, outputs) = (max(problem.places.estimate, 1), problem.groupOutputs)
    func tiles(_ rows: Int, _ columns: Int) -> Int {
      (places + rows - 1) / rows * ((outputs + columns - 1) / columns) * problem.groups
    }
    if tiles(64, 64) <= 132 { return few(problem, places) }
    if outputs <= 64 {
      return problem.isPlain
        ? WarpgroupConvolution(m: 64, n: 64, consumers: 1, stages: 4, residentBlocks: 3)
        : WarpgroupConvolution(m: 128, n: 64, consumers: 1, stages: 4, residentBlocks: 2)
    }
    // Where little is added up, memory is what takes time: many small blocks have more of it on its way.
    if problem.isPlain, problem.depth <= 256, tiles(64, 128) >= 396 {
      return WarpgroupConvolution(m: 64, n: 128, consumers: 1, stages: 2, residentBlocks: 3)
    }
    if tiles(128, 128) >= 264 {
      return WarpgroupConvolution(m: 128, n: 128, consumers: 2, stages: 5, isPingPong: true)
    }
    if tiles(128, 128) >= 66 { return WarpgroupConvolution(m: 64, n: 128, consumers: 2, stages: 6) }
    return WarpgroupConvolution(m: 64, n: 64, consumers: 2, stages: 6)
  }

  /// Fewer tiles than multiprocessors: the sum is split where it is long.
  private static func few(_ problem: ConvProblem, _ places: Int) -> WarpgroupConvolution {
    if problem.depth <= 512 { return WarpgroupConvolution(m: 64, n: 32, consumers: 1, stages: 8) }
    let isLong = problem.depth >= 2048 || !problem.isPlain
    let split = places >= 3136 ? 2 : places >= 196 ? (isLong ? 4 : 2) : 8
    return WarpgroupConvolution(m: 64, n: 32, consumers: 1, stages: 6, split: split)
  }
}

extension ConvProblem {
  /// Whether the image is a matrix of places and channels as it lies.
  var isPlain: Bool { kernel == [1, 1, 1] && strides == [1, 1, 1] && pads == [0, 0, 0] && output == input }

  /// Where windows end, counted from the end of the axis.
  private func upper(_ axis: Int) -> Dim {
    (output[axis] - 1) * Dim(strides[axis]) - Dim(pads[axis]) - (input[axis] - 1)
  }

  /// Axes of a window map, innermost first.
  private var windowAxes: [Int] { rank == 3 ? [2, 1, 0] : [2, 1] }

  /// Whether the copy engine can walk over the windows.
  var fitsWindowMap: Bool {
    let (limit, reach) = rank == 3 ? (15, 31) : (127, 255)
    return windowAxes.allSatisfy { axis in
      let last = upper(axis).range
      return strides[axis] <= 8 && pads[axis] <= limit && last.lower >= -limit - 1 && last.upper <= limit
        && (kernel[axis] - 1) * dilations[axis] <= reach
    }
  }

  /// How the image and the weights are copied.
  func maps(_ tile: WarpgroupConvolution) -> [TensorMap] {
    let size = Dim(dtype.byteCount)
    let inner = 128 / dtype.byteCount
    let pixel = Dim(channels) * size
    let row = input[2] * pixel
    let plane = input[1] * row
    let image: TensorMap
    if isPlain {
      image = TensorMap(
        buffer: 0, dtype: dtype, sizes: [Dim(channels), places, 1], strides: [pixel, pixel],
        box: [inner, tile.blockRows, 1])
    } else {
      let isDeep = rank == 3
      image = TensorMap(
        buffer: 0, dtype: dtype,
        sizes: [Dim(channels), input[2], input[1]] + (isDeep ? [input[0]] : []) + [images],
        strides: [pixel, row] + (isDeep ? [plane] : []) + [input[0] * plane], box: [inner, tile.blockRows],
        windows: TensorMap.Windows(
          lower: windowAxes.map { -pads[$0] }, upper: windowAxes.map(upper), steps: windowAxes.map { strides[$0] }))
    }
    let taps = kernel.reduce(1, *)
    let weights = TensorMap(
      buffer: 1, dtype: dtype, sizes: [Dim(groupChannels), Dim(taps), Dim(outputs)],
      strides: [Dim(groupChannels) * size, Dim(depth) * size], box: [inner, 1, tile.n])
    return [image, weights]
  }
}
