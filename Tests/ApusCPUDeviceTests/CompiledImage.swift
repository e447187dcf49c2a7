import ApusCore
import ApusPlan

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Code compiled from C by `clang` (or `CC`) as the compiler's targets do.
enum CompiledImage {
  struct NoCompiler: Error, CustomStringConvertible {
    let command: String
    var description: String { "the tests need a C compiler: '\(command)' failed" }
  }

  private static let prefix = """
    #include <stdint.h>
    #define KERNEL(name) void name(void *const *buffers, const int64_t *params, int64_t block, int64_t blocks, void *scratch)

    """

  /// Kernels that the tests share.
  static let common = """
    // y = x * params[1] + 1 over params[0] elements.
    KERNEL(affine) {
      const float *x = buffers[0];
      float *y = buffers[1];
      for (int64_t i = params[0] * block / blocks; i < params[0] * (block + 1) / blocks; i++) y[i] = x[i] * params[1] + 1;
    }
    KERNEL(nothing) {}
    // counts[block] += 1
    KERNEL(count) { ((int32_t *)buffers[0])[block] += 1; }
    // sums[block] = 0 + 1 + ... + (params[0] - 1) by way of scratch
    KERNEL(sums) {
      int64_t *numbers = scratch;
      for (int64_t i = 0; i < params[0]; i++) numbers[i] = i + block;
      int64_t sum = 0;
      for (int64_t i = 0; i < params[0]; i++) sum += numbers[i] - block;
      ((int64_t *)buffers[0])[block] = sum;
    }
    """

  static func compile(_ source: String = common) throws -> KernelImage {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(folder)/apus-test-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    close(descriptor)
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
      unlink(path)
      unlink("\(path).c")
      unlink("\(path).so")
    }
    try AtomicFile.write(Array((prefix + source).utf8), to: "\(path).c")
    let compiler = getenv("CC").map { String(cString: $0) } ?? "clang"
    let command = "\(compiler) -O2 -shared -fPIC -o '\(path).so' '\(path).c'"
    if system(command) != 0 { throw NoCompiler(command: command) }
    let file = try MappedFile(path: "\(path).so")
    return withExtendedLifetime(file) { KernelImage(target: "x86-64", bytes: Array(file.bytes)) }
  }
}
