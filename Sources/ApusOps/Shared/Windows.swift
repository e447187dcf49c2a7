import ApusCore
import ApusGraph
import ApusKernel

/// Where the channels of an image-like tensor are.
package enum ImageLayout: String, CaseIterable, Sendable {
  /// Batch, channels, spatial axes (of any number).
  case nchw
  /// Batch, spatial axes, channels.
  case nhwc

  package func channelAxis(rank: Int) -> Int { self == .nchw ? 1 : rank - 1 }
  package func spatialAxes(rank: Int) -> Range<Int> { self == .nchw ? 2..<rank : 1..<rank - 1 }

  /// A shape or position of this layout put together from its parts.
  package func assemble<Size>(_ batch: Size, _ channel: Size, _ spatial: [Size]) -> [Size] {
    self == .nchw ? [batch, channel] + spatial : [batch] + spatial + [channel]
  }

  init(_ attributes: Attributes) throws(GraphError) {
    let text = try attributes.string("layout")
    guard let layout = ImageLayout(rawValue: text) else {
      throw GraphError("APUS-G-0022", "layout '\(text)' is neither nchw nor nhwc")
    }
    self = layout
  }
}

/// How windows are laid over the spatial axes: strides, padding and dilation per axis.
package struct WindowGeometry: Hashable, Sendable {
  package var strides: [Int]
  package var padsBegin: [Int]
  package var padsEnd: [Int]
  package var dilations: [Int]

  package init(strides: [Int], padsBegin: [Int], padsEnd: [Int], dilations: [Int]) {
    self.strides = strides
    self.padsBegin = padsBegin
    self.padsEnd = padsEnd
    self.dilations = dilations
  }

  package init(rank: Int) {
    self.init(
      strides: [Int](repeating: 1, count: rank), padsBegin: [Int](repeating: 0, count: rank),
      padsEnd: [Int](repeating: 0, count: rank), dilations: [Int](repeating: 1, count: rank))
  }

  init(_ attributes: Attributes) throws(GraphError) {
    self.init(
      strides: try attributes.ints("strides"), padsBegin: try attributes.ints("pads_begin"),
      padsEnd: try attributes.ints("pads_end"), dilations: try attributes.ints("dilations"))
    let limit = 1 << 31
    let count = strides.count
    guard padsBegin.count == count, padsEnd.count == count, dilations.count == count,
      (strides + dilations).allSatisfy({ (1...limit).contains($0) }),
      (padsBegin + padsEnd).allSatisfy({ (0...limit).contains($0) })
    else {
      throw GraphError(
        "APUS-G-0023", "strides and dilations of at least 1 and pads of at least 0 are expected, as many of each",
        hint: "Found strides \(strides), dilations \(dilations), pads \(padsBegin) and \(padsEnd).")
    }
  }

  var attributes: [(String, Attribute)] {
    [
      ("strides", .ints(strides)), ("pads_begin", .ints(padsBegin)), ("pads_end", .ints(padsEnd)),
      ("dilations", .ints(dilations)),
    ]
  }

  package var rank: Int { strides.count }

  /// What a window of `kernel` taps spans along an axis.
  func extent(_ kernel: Dim, _ axis: Int) -> Dim { Dim(dilations[axis]) * (kernel - 1) + 1 }

  /// The number of windows along an axis, or nil when not even one fits.
  func outputSize(_ input: Dim, kernel: Dim, axis: Int, ceilMode: Bool = false) -> Dim? {
    let room = input + Dim(padsBegin[axis]) + Dim(padsEnd[axis]) - extent(kernel, axis)
    let stride = Dim(strides[axis])
    if !ceilMode { return room.range.upper < 0 ? nil : room.floorDivided(by: stride) + 1 }
    // A last window that would begin behind the input is left out.
    let begins = (input + Dim(padsBegin[axis]) - 1).floorDivided(by: stride) + 1
    let count = Dim.minimum(room.ceilDivided(by: stride) + 1, begins)
    return count.range.upper < 1 ? nil : count
  }

  /// The input coordinate under a tap of a window.
  func source(_ window: Dim, _ tap: Dim, _ axis: Int) -> Dim {
    window * Dim(strides[axis]) + tap * Dim(dilations[axis]) - Dim(padsBegin[axis])
  }

  /// Whether every window lies inside the input along an axis, so that no bounds check is needed.
  func staysInside(_ axis: Int, input: Dim, kernel: Dim, output: Dim) -> (below: Bool, above: Bool) {
    let last = source(output - 1, kernel - 1, axis)
    return (padsBegin[axis] == 0, (input - 1 - last).range.lower >= 0)
  }

  /// For the window at a position, the linear spatial index under each tap, or −1 outside the input.
  func offsets(_ position: [Int], input: [Int], kernel: [Int]) -> [Int] {
    let steps = HostTensor.strides(of: input)
    let tables = position.indices.map { axis in
      (0..<kernel[axis]).map { tap in
        let index = position[axis] * strides[axis] + tap * dilations[axis] - padsBegin[axis]
        return (0..<input[axis]).contains(index) ? index * steps[axis] : -1
      }
    }
    return IndexMap.combining(tables)
  }
}

/// The coordinates of a row-major linear index.
func coordinates(of index: Int, in shape: [Int]) -> [Int] {
  var rest = index
  var reversed: [Int] = []
  for size in shape.reversed() {
    reversed.append(rest % max(size, 1))
    rest /= max(size, 1)
  }
  return reversed.reversed()
}
