public import ApusCore

/// `result = activation(conv(image, weights) + addend + bias)` of tensors with channels innermost.
///
/// Buffers: image `[images, places…, channels]`, weights `[outputs, kernel…, channels / groups]`, the addend and the bias
/// `[outputs]` where there are such, the result `[images, places…, outputs]`, and working memory of bytes. Sizes: images, then the
/// image's places along each of two or three axes, then the result's. Sums are taken in f32, of numbers that are not rounded.
public struct LibraryConvolution: Sendable, Hashable {
  public var dtype: DType
  public var channels: Int
  public var outputs: Int
  public var groups: Int
  /// Along each axis; what is padded counts in front of the image.
  public var kernel: [Int]
  public var strides: [Int]
  public var dilations: [Int]
  public var pads: [Int]
  public var hasAddend: Bool
  public var hasBias: Bool
  public var isRectified: Bool

  public init(
    dtype: DType, channels: Int, outputs: Int, groups: Int = 1, kernel: [Int], strides: [Int], dilations: [Int],
    pads: [Int], hasAddend: Bool = false, hasBias: Bool = false, isRectified: Bool = false
  ) {
    self.dtype = dtype
    self.channels = channels
    self.outputs = outputs
    self.groups = groups
    self.kernel = kernel
    self.strides = strides
    self.dilations = dilations
    self.pads = pads
    self.hasAddend = hasAddend
    self.hasBias = hasBias
    self.isRectified = isRectified
  }

  /// Number of axes of places.
  public var rank: Int { kernel.count }
  public var sizeCount: Int { 1 + 2 * rank }
  public var bufferCount: Int { 4 + (hasAddend ? 1 : 0) + (hasBias ? 1 : 0) }

  /// What each buffer's elements are, working memory last.
  package var bufferDTypes: [DType] { [DType](repeating: dtype, count: bufferCount - 1) + [.u8] }

  private static let limit = 1 << 20

  /// Whether libraries convolve so.
  package var isPossible: Bool {
    [.f16, .bf16, .f32].contains(dtype) && (2...3).contains(rank)
      && [strides, dilations, pads].allSatisfy { $0.count == rank }
      && (kernel + strides + dilations + [channels, outputs, groups]).allSatisfy { (1...Self.limit).contains($0) }
      && pads.allSatisfy { (0...Self.limit).contains($0) } && channels % groups == 0 && outputs % groups == 0
  }

  /// Elements that each buffer must have, without working memory; nil for sizes that are none.
  package func elementCounts(_ sizes: [Int]) -> [Int]? {
    guard sizes.count == sizeCount, sizes.allSatisfy({ $0 >= 0 }) else { return nil }
    func count(_ places: ArraySlice<Int>, _ channels: Int) -> Int {
      saturatingMultiply(places.reduce(sizes[0], saturatingMultiply), channels)
    }
    let result = count(sizes[(1 + rank)...], outputs)
    return [count(sizes[1...rank], channels), kernel.reduce(outputs * (channels / groups), saturatingMultiply)]
      + (hasAddend ? [result] : []) + (hasBias ? [outputs] : []) + [result]
  }

  /// Padding behind the image, as much as in front where the result's places allow that.
  package func padsBehind(_ sizes: [Int]) -> [Int] {
    (0..<rank).map { axis in
      let reach = dilations[axis] * (kernel[axis] - 1) + 1
      let (image, result) = (sizes[1 + axis], sizes[1 + rank + axis])
      if (image + 2 * pads[axis] - reach) / strides[axis] + 1 == result { return pads[axis] }
      return max((result - 1) * strides[axis] + reach - image - pads[axis], 0)
    }
  }
}
