import ApusCore
import ApusGraph

/// The window of a convolution or pooling: ONNX's attributes with their defaults, `auto_pad` resolved into pads.
struct SpatialWindow {
  var kernel: [Dim]
  var strides: [Int]
  var dilations: [Int]
  var before: [Dim]
  var after: [Dim]
  var ceils: Bool

  /// Reads the attributes of the node for an input of `spatial` sizes.
  init(_ n: NodeContext, kernel: [Dim], spatial: [Dim]) throws(ImportError) {
    let count = spatial.count
    guard (1...3).contains(count) else { throw .unsupported("with \(count) spatial dims") }
    guard kernel.count == count else {
      throw ImportError("APUS-I-0013", "the kernel has \(kernel.count) dims, the input has \(count) spatial ones")
    }
    for size in kernel where (size.constantValue ?? 1) < 1 {
      throw ImportError("APUS-I-0013", "the kernel's size is \(size)")
    }
    self.kernel = kernel
    strides = try SpatialWindow.list(n, "strides", count: count, minimum: 1)
    dilations = try SpatialWindow.list(n, "dilations", count: count, minimum: 1)
    ceils = try n.flag("ceil_mode")
    let pads = try n.optionalInts("pads") ?? Array(repeating: 0, count: 2 * count)
    guard pads.count == 2 * count, pads.allSatisfy({ $0 > -SpatialWindow.limit && $0 < SpatialWindow.limit }) else {
      throw ImportError("APUS-I-0012", "pads \(pads) are not \(2 * count) sizes")
    }
    before = pads[..<count].map { Dim($0) }
    after = pads[count...].map { Dim($0) }
    let mode = try n.choice("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"], default: "NOTSET")
    if mode == "NOTSET" { return }
    before = Array(repeating: 0, count: count)
    after = before
    if mode == "VALID" { return }
    for axis in 0..<count { padToSame(axis, spatial[axis], extraAtEnd: mode == "SAME_UPPER") }
  }

  /// Bound on strides, dilations and pads, far beyond any model's.
  private static let limit = 1 << 24

  static func list(
    _ n: NodeContext, _ name: String, count: Int, minimum: Int
  ) throws(ImportError) -> [Int] {
    guard let values = try n.optionalInts(name) else { return Array(repeating: 1, count: count) }
    guard values.count == count, values.allSatisfy({ $0 >= minimum && $0 < limit }) else {
      throw ImportError("APUS-I-0012", "\(name) \(values) are not \(count) numbers from \(minimum)")
    }
    return values
  }

  /// Positions that the dilated kernel spans.
  func span(_ axis: Int) -> Dim { (kernel[axis] - 1) * Dim(dilations[axis]) + 1 }

  /// Pads so that the output has `ceil(size / stride)` positions.
  private mutating func padToSame(_ axis: Int, _ size: Dim, extraAtEnd: Bool) {
    let stride = Dim(strides[axis])
    let outputs = size.ceilDivided(by: stride)
    let total = strides[axis] == 1 ? span(axis) - 1 : Dim.maximum((outputs - 1) * stride + span(axis) - size, 0)
    let half = total.floorDivided(by: 2)
    before[axis] = extraAtEnd ? half : total - half
    after[axis] = extraAtEnd ? total - half : half
  }

  /// Both lists of pads when all are known.
  var constantPads: (before: [Int], after: [Int])? {
    let first = before.compactMap(\.constantValue)
    let last = after.compactMap(\.constantValue)
    return first.count == before.count && last.count == after.count ? (first, last) : nil
  }

  /// `x` padded, and the window without pads, where the pads are not constant or are negative.
  mutating func applyUnknownPads(
    _ n: NodeContext, _ x: ValueID, fill: Double
  ) throws(ImportError) -> ValueID {
    if let pads = constantPads, (pads.before + pads.after).allSatisfy({ $0 >= 0 }) { return x }
    let padded = try MovementOperators.pad(
      n, x, before: [0, 0] + before, after: [0, 0] + after, value: n.scalar(fill, like: x), mode: "constant")
    before = before.map { _ in 0 }
    after = before
    return padded
  }
}
