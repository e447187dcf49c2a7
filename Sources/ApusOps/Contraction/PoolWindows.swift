import ApusCore
import ApusKernel

/// The windows of a pooling over sizes that are known.
struct PoolWalk {
  let input: [Int]
  let output: [Int]
  let kernel: [Int]
  let window: WindowGeometry
  private let layout: ImageLayout
  private let shape: [Int]
  private let resultShape: [Int]

  init(_ shape: [Int], _ result: [Int], kernel: [Int], _ window: WindowGeometry, _ layout: ImageLayout) {
    let spatial = layout.spatialAxes(rank: shape.count)
    input = Array(shape[spatial])
    output = Array(result[spatial])
    self.kernel = kernel
    self.window = window
    self.layout = layout
    self.shape = shape
    resultShape = result
  }

  /// Calls `body` with the linear indices under each window's taps (−1 outside) and the window's position; the results
  /// are in the order of the result's elements.
  func map<Element>(_ body: ([Int], [Int]) -> Element) -> [Element] {
    if resultShape.contains(0) { return [] }
    let source = ImageStrides(shape, layout)
    let target = ImageStrides(resultShape, layout)
    var results = [Element?](repeating: nil, count: resultShape.reduce(1, *))
    for index in 0..<output.reduce(1, *) {
      let position = coordinates(of: index, in: output)
      let offsets = window.offsets(position, input: input, kernel: kernel)
      for batch in 0..<source.batch {
        for channel in 0..<source.channels {
          let places = offsets.map { $0 < 0 ? -1 : source.index(batch, channel, $0) }
          results[target.index(batch, channel, index)] = body(places, position)
        }
      }
    }
    return results.compactMap { $0 }
  }

  /// The taps of a window that lie inside the padded input.
  func paddedTaps(_ position: [Int]) -> Int {
    position.indices.reduce(1) { count, axis in
      let start = position[axis] * window.strides[axis] - window.padsBegin[axis]
      let end = input[axis] + window.padsEnd[axis]
      let taps = (end - start + window.dilations[axis] - 1) / window.dilations[axis]
      return count * min(kernel[axis], taps)
    }
  }
}

/// The windows of a pooling as index expressions.
struct PoolLowering {
  let input: [Dim]
  let output: [Dim]
  let kernel: [Int]
  let window: WindowGeometry
  let layout: ImageLayout
  private let rank: Int
  private let spatial: [Int]

  init(_ shape: Shape, _ result: Shape, kernel: [Int], _ window: WindowGeometry, _ layout: ImageLayout) {
    rank = shape.count
    spatial = Array(layout.spatialAxes(rank: rank))
    input = spatial.map { shape[$0] }
    output = spatial.map { result[$0] }
    self.kernel = kernel
    self.window = window
    self.layout = layout
  }

  /// The operand's coordinates under a tap, moved inside the operand, and the condition that they needed no moving.
  func place(_ coordinates: [Dim], _ taps: [Dim], _ arena: ExprArena) -> (source: [Dim], inside: Expr?) {
    var conditions: [Expr] = []
    var source: [Dim] = []
    for (axis, index) in spatial.enumerated() {
      let place = window.source(coordinates[index], taps[axis], axis)
      let inside = window.staysInside(axis, input: input[axis], kernel: Dim(kernel[axis]), output: output[axis])
      conditions += arena.insideConditions(place, input[axis], below: !inside.below, above: !inside.above)
      source.append(inside.below && inside.above ? place : Dim.clamped(place, below: input[axis]))
    }
    let channel = coordinates[layout.channelAxis(rank: rank)]
    return (layout.assemble(coordinates[0], channel, source), arena.all(conditions))
  }

  /// The taps of a window that lie inside the padded input.
  func paddedTaps(_ coordinates: [Dim]) -> Dim {
    count(coordinates) { start, axis in
      let last = window.source(output[axis] - 1, Dim(kernel[axis] - 1), axis)
      let end = input[axis] + Dim(window.padsEnd[axis])
      return (end - 1 - last).range.lower >= 0 ? Dim(kernel[axis]) : taps(from: start, below: end, axis)
    }
  }

  /// The taps of a window that lie inside the input.
  func insideTaps(_ coordinates: [Dim]) -> Dim {
    count(coordinates) { start, axis in
      let inside = window.staysInside(axis, input: input[axis], kernel: Dim(kernel[axis]), output: output[axis])
      let end = inside.above ? Dim(kernel[axis]) : taps(from: start, below: input[axis], axis)
      return inside.below ? end : end - Dim.maximum(-start, 0).ceilDivided(by: Dim(window.dilations[axis]))
    }
  }

  private func taps(from start: Dim, below end: Dim, _ axis: Int) -> Dim {
    Dim.minimum((end - start).ceilDivided(by: Dim(window.dilations[axis])), Dim(kernel[axis]))
  }

  private func count(_ coordinates: [Dim], _ taps: (Dim, Int) -> Dim) -> Dim {
    Dim.product(spatial.enumerated().map { axis, index in taps(window.source(coordinates[index], 0, axis), axis) })
  }
}
