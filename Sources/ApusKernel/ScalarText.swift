/// C texts that all targets share.
package enum ScalarText {
  /// Scalar functions that expressions name; needs a prelude and functions of mathematics.
  package static let scalar = String(decoding: PackageResources.scalar_h, as: UTF8.self) + "\n"
}
