/// A 64-bit checksum against damage, not against intent: eight lanes of multiply and rotate over 8-byte words.
///
/// - Source: the round and the avalanche are those of xxHash64 (Collet); the lanes are wider.
package enum Checksum {
  private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
  private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
  private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9

  package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var lanes = SIMD8<UInt64>(1, 2, 3, 4, 5, 6, 7, 8) &* prime1
    let stripes = bytes.count / 64
    if let base = bytes.baseAddress {
      for stripe in 0..<stripes {
        let words = (base + stripe &* 64).loadUnaligned(as: SIMD8<UInt64>.self)
        lanes = rotated(lanes &+ words &* prime2) &* prime1
      }
    }
    var hash = UInt64(truncatingIfNeeded: bytes.count) &* prime3
    for lane in 0..<8 { hash = mixed(hash ^ lanes[lane]) }
    for byte in bytes[(stripes * 64)...] { hash = mixed(hash ^ UInt64(byte)) }
    hash ^= hash >> 33
    hash &*= prime2
    hash ^= hash >> 29
    return hash
  }

  private static func rotated(_ x: SIMD8<UInt64>) -> SIMD8<UInt64> { (x &<< 31) | (x &>> 33) }

  private static func mixed(_ x: UInt64) -> UInt64 {
    let product = x &* prime2
    return ((product &<< 27) | (product &>> 37)) &* prime1 &+ prime3
  }
}
