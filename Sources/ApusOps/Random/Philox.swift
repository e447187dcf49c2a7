/// A counter-based random number generator: the same numbers for the same seed, on every machine.
///
/// Without a seed the key is drawn from the system. Source: Salmon et al. 2011, Philox4x32-10.
struct Philox: RandomNumberGenerator {
  private let key: (UInt32, UInt32)
  private var counter: UInt64 = 0
  private var block: [UInt32] = []

  init(seed: UInt64?) {
    let seed = seed ?? UInt64.random(in: .min ... .max)
    key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
  }

  mutating func next() -> UInt64 {
    if block.isEmpty { refill() }
    let low = UInt64(block.removeLast())
    return UInt64(block.removeLast()) << 32 | low
  }

  private mutating func refill() {
    var x: [UInt32] = [UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32), 0, 0]
    var (k0, k1) = key
    for _ in 0..<10 {
      let a = UInt64(x[0]) * 0xD251_1F53
      let b = UInt64(x[2]) * 0xCD9E_8D57
      x = [
        UInt32(truncatingIfNeeded: b >> 32) ^ x[1] ^ k0, UInt32(truncatingIfNeeded: b),
        UInt32(truncatingIfNeeded: a >> 32) ^ x[3] ^ k1, UInt32(truncatingIfNeeded: a),
      ]
      k0 &+= 0x9E37_79B9
      k1 &+= 0xBB67_AE85
    }
    counter &+= 1
    block = x
  }

  /// A number in 0 ..< 1 with 53 random bits.
  mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
