import ApusCore
import ApusKernel

/// How a resized coordinate maps to one of the original tensor.
///
/// Source: ONNX Resize-19, attribute coordinate_transformation_mode.
package enum CoordinateTransformation: String, CaseIterable, Sendable {
  case halfPixel = "half_pixel"
  case halfPixelSymmetric = "half_pixel_symmetric"
  case pytorchHalfPixel = "pytorch_half_pixel"
  case alignCorners = "align_corners"
  case asymmetric
  case tfHalfPixelForNN = "tf_half_pixel_for_nn"
  case tfCropAndResize = "tf_crop_and_resize"
}

/// How a coordinate between two elements becomes one of them.
package enum NearestMode: String, CaseIterable, Sendable {
  case roundPreferFloor = "round_prefer_floor"
  case roundPreferCeil = "round_prefer_ceil"
  case floor
  case ceil
}

/// The coordinate map of one resized axis.
///
/// A scale that is a small fraction (or the quotient of the sizes) gives a coordinate that is a quotient of integers, so
/// that which elements are met does not hang on rounding.
struct ResizeAxis {
  let input: Dim
  let output: Dim
  /// Factor from input to output size; 0 stands for the quotient of the sizes.
  let scale: Double
  let transformation: CoordinateTransformation

  var isIdentity: Bool { input == output && (scale == 0 || scale == 1) && transformation != .tfCropAndResize }

  /// The scale as a fraction.
  private var ratio: (over: Dim, under: Dim)? {
    if scale == 0 { return (output, input) }
    for under in 1...64 {
      let over = (scale * Double(under)).rounded()
      guard over >= 1, over < 1e6 else { continue }
      if abs(scale * Double(under) - over) <= 2e-7 * over { return (Dim(Int(over)), Dim(under)) }
    }
    return nil
  }

  /// Source coordinate of output coordinate `x` as a quotient of integers with a positive divisor.
  func fraction(_ x: Dim) -> (over: Dim, under: Dim)? {
    guard let (p, q) = ratio else { return nil }
    let center = (x * 2 + 1) * q
    switch transformation {
    case .asymmetric: return (x * q, p)
    case .halfPixel: return (center - p, p * 2)
    case .halfPixelSymmetric: return (input * p - output * q + center - p, p * 2)
    case .pytorchHalfPixel:
      // A single output element takes the first input element.
      let isMany = output.constantValue.map { Dim($0 > 1 ? 1 : 0) } ?? (output - 1).isPositiveIndicator
      return ((center - p) * isMany, p * 2)
    case .alignCorners:
      let under = scale == 0 ? output - 1 : input * p - q
      return (x * (input - 1) * (scale == 0 ? 1 : q), Dim.maximum(under, 1))
    case .tfHalfPixelForNN: return (center, p * 2)
    case .tfCropAndResize: return nil
    }
  }

  /// Floor of a quotient, reduced by the common factor of what varies and the divisor.
  static func floor(_ over: Dim, _ under: Dim, _ arena: ExprArena?) -> Dim {
    var (over, under) = (over, under)
    if let divisor = under.constantValue {
      var common = divisor
      for summand in over.summands { common = greatestCommonDivisor(common, summand.coefficient) }
      if common > 1, let varying = (over - Dim(over.constantTerm)).dividedExactly(by: Dim(common)) {
        over = varying + Dim(saturatingFloorDivide(over.constantTerm, common))
        under = Dim(divisor / common)
      }
    }
    return arena?.quotient(over, under) ?? over.floorDivided(by: under)
  }

  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
    var (a, b) = (a.magnitude, b.magnitude)
    while b != 0 { (a, b) = (b, a % b) }
    return Int(clamping: a)
  }

  /// The element nearest to a fractional coordinate, not yet clamped.
  static func nearest(_ fraction: (over: Dim, under: Dim), _ mode: NearestMode, _ arena: ExprArena?) -> Dim {
    let (n, d) = fraction
    switch mode {
    case .floor: return floor(n, d, arena)
    case .ceil: return floor(n + d - 1, d, arena)
    case .roundPreferFloor: return floor(n * 2 + d - 1, d * 2, arena)
    case .roundPreferCeil: return floor(n * 2 + d, d * 2, arena)
    }
  }

  /// Source coordinate for a scale that is no small fraction, or for a crop from `start` to `end` (in parts of the axis).
  func coordinate(_ x: Int, start: Double, end: Double) -> Double {
    let (input, output) = (Double(input.constantValue ?? 0), Double(output.constantValue ?? 0))
    let scale = self.scale == 0 ? output / Swift.max(input, 1) : self.scale
    let (length, x) = (scale * input, Double(x))
    switch transformation {
    case .asymmetric: return x / scale
    case .halfPixel: return (x + 0.5) / scale - 0.5
    case .halfPixelSymmetric: return input / 2 * (1 - output / length) + (x + 0.5) / scale - 0.5
    case .pytorchHalfPixel: return output > 1 ? (x + 0.5) / scale - 0.5 : 0
    case .alignCorners: return length > 1 ? x * (input - 1) / (length - 1) : 0
    case .tfHalfPixelForNN: return (x + 0.5) / scale
    case .tfCropAndResize:
      if output <= 1 { return (start + end) / 2 * (input - 1) }
      return start * (input - 1) + x * (end - start) * (input - 1) / (output - 1)
    }
  }

  /// Where a crop starts and ends, in parts of the axis, as f64.
  struct Crop {
    let start: Expr
    let end: Expr
  }

  /// ``coordinate(_:start:end:)`` as an f64 expression; nil for a crop that is not told.
  func coordinate(_ x: Dim, _ crop: Crop?, _ arena: ExprArena) -> Expr? {
    let real = { (value: Double) in arena.constant(value, .f64) }
    let cast = { (dim: Dim) in arena.cast(arena.index(dim), to: .f64) }
    let position = cast(x)
    let center = arena.binary(.add, position, real(0.5))
    let half = arena.binary(.sub, arena.binary(.div, center, real(scale)), real(0.5))
    switch transformation {
    case .asymmetric: return arena.binary(.div, position, real(scale))
    case .halfPixel: return half
    case .halfPixelSymmetric:
      let length = arena.binary(.mul, cast(input), real(scale))
      let slack = arena.binary(.sub, real(1), arena.binary(.div, cast(output), length))
      return arena.binary(.add, arena.binary(.mul, arena.binary(.div, cast(input), real(2)), slack), half)
    case .pytorchHalfPixel:
      return arena.select(arena.binary(.greater, cast(output), real(1)), half, real(0))
    case .alignCorners:
      let last = arena.binary(.sub, arena.binary(.mul, cast(input), real(scale)), real(1))
      let moved = arena.binary(.div, arena.binary(.mul, position, cast(input - 1)), last)
      return arena.select(arena.binary(.greater, last, real(0)), moved, real(0))
    case .tfHalfPixelForNN: return arena.binary(.div, center, real(scale))
    case .tfCropAndResize:
      guard let crop else { return nil }
      let reach = cast(input - 1)
      let middle = arena.binary(.mul, arena.binary(.div, arena.binary(.add, crop.start, crop.end), real(2)), reach)
      let moved = arena.binary(.mul, arena.binary(.mul, position, arena.binary(.sub, crop.end, crop.start)), reach)
      let part = arena.binary(.div, moved, cast(Dim.maximum(output - 1, 1)))
      let many = arena.binary(.add, arena.binary(.mul, crop.start, reach), part)
      return arena.select(arena.binary(.greater, cast(output), real(1)), many, middle)
    }
  }
}
