// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []) -> Target {
  .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

/// Kernel templates travel inside the binary.
func kernelTexts(_ names: [String], kind: String = "h") -> [Resource] {
  names.map { .embedInCode("Kernels/\($0).\(kind)") }
}

let package = Package(
  name: "apus",
  products: [
    .library(name: "Apus", targets: ["Apus"]),
    .executable(name: "apus", targets: ["ApusCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // Without its streams, which need all of Foundation.
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
  ],
  targets: [
    // Shared by both stems.
    module("ApusCore"),
    // Runtime stem.
    module("ApusPlan", ["ApusCore"]),
    .target(name: "CApusHost"),
    module("ApusRuntime", ["ApusCore", "ApusPlan"]),
    module("ApusCPUDevice", ["ApusCore", "ApusPlan", "ApusRuntime", "CApusHost"]),
    .target(name: "CApusCUDA"),
    module("ApusCUDADevice", ["ApusCore", "ApusPlan", "ApusRuntime", "CApusCUDA"]),
    // Compiler stem.
    module("ApusKernel", ["ApusCore"], resources: kernelTexts(["scalar"])),
    module("ApusGraph", ["ApusCore", "ApusKernel"]),
    .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
    module("ApusOps", ["ApusCore", "ApusKernel", "ApusGraph", "CZlib"]),
    module(
      "ApusImport",
      [
        "ApusCore", "ApusKernel", "ApusGraph", "ApusOps",
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ]),
    module("ApusCompiler", ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusPlan", "ApusRuntime"]),
    module(
      "ApusCPUTarget",
      ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusPlan", "ApusRuntime", "ApusCompiler"],
      resources: kernelTexts([
        "prelude", "math", "attention", "lstm", "top_k", "gemm", "conv", "winograd", "winograd_line", "conv_transpose",
        "depthwise",
        "pool", "undef",
      ])),
    module(
      "ApusCUDATarget",
      ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusPlan", "ApusRuntime", "ApusCompiler", "CApusCUDA"],
      resources: kernelTexts(
        [
          "prelude", "ptx", "math", "gemm", "gemm_simt", "gemm_mma", "barrier", "wgmma", "gemm_wgmma", "gemv_common",
          "gemv", "gemv_ring", "attention_common", "attention_finish", "attention_simt", "attention_mma", "conv",
          "conv_simt", "conv_mma",
          "conv_wgmma", "conv_stem", "order", "scan", "radix", "scatter",
          "boxes", "recurrent", "fourier",
        ], kind: "cuh")),
    // Where the stems meet.
    module(
      "Apus",
      [
        "ApusCore", "ApusPlan", "ApusRuntime", "ApusCPUDevice", "ApusCUDADevice", "ApusKernel", "ApusGraph", "ApusOps",
        "ApusImport", "ApusCompiler", "ApusCPUTarget", "ApusCUDATarget", "CZlib",
      ]),
    module(
      "ApusTesting",
      ["Apus", "ApusCore", "ApusPlan", "ApusRuntime", "ApusGraph", "ApusOps", "ApusImport", "ApusCompiler"]),
    .executableTarget(
      name: "ApusCLI",
      dependencies: [
        "Apus", "ApusCore", "ApusPlan", "ApusRuntime", "ApusGraph", "ApusOps", "ApusImport", "ApusCompiler",
        "ApusCPUDevice", "ApusCPUTarget", "ApusCUDADevice", "ApusTesting",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    // What tests share.
    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: settings),
    tests("ApusCoreTests", ["ApusCore"]),
    tests("ApusPlanTests", ["ApusCore", "ApusPlan"]),
    tests("ApusRuntimeTests", ["ApusCore", "ApusPlan", "ApusRuntime"]),
    .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
    tests(
      "ApusCPUDeviceTests",
      ["ApusCore", "ApusPlan", "ApusRuntime", "ApusCPUDevice", "CAllocationCounter", "TestSupport"]),
    tests(
      "ApusTests",
      [
        "Apus", "ApusCompiler", "ApusCore", "ApusGraph", "ApusImport", "ApusOps", "ApusRuntime", "ApusCUDADevice",
        "CApusCUDA", "ApusTesting", "TestSupport", "CAllocationCounter",
      ]),
    tests("ApusTestingTests", ["ApusTesting", "ApusCore"]),
    tests(
      "ApusCLITests",
      [
        "Apus", "ApusCLI", "TestSupport", "ApusCore", "ApusPlan", "ApusRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    tests("ApusGraphTests", ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps"]),
    tests(
      "ApusImportTests",
      [
        "ApusCore", "ApusGraph", "ApusOps", "ApusImport", "ApusTesting",
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ]),
    tests(
      "BadInputTests",
      [
        "Apus", "ApusCLI", "ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusImport", "ApusCompiler",
        "ApusCPUTarget",
        "ApusPlan", "ApusRuntime", "TestSupport",
      ]),
    tests(
      "ArchitectureTests",
      [
        "Apus", "ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusImport", "ApusCompiler", "ApusCPUTarget",
        "ApusCUDATarget", "TestSupport",
      ]),
    tests("ApusOpsTests", ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusTesting", "TestSupport"]),
    tests(
      "ApusCompilerTests", ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusCompiler", "ApusTesting"]),
    tests(
      "ApusCUDATargetTests",
      [
        "ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusPlan", "ApusRuntime", "ApusCompiler", "ApusCUDATarget",
        "ApusCUDADevice", "ApusCPUDevice", "ApusTesting",
      ], exclude: ["emulation.h", "emulated_ptx.h"]),
    tests(
      "ApusCPUTargetTests",
      [
        "ApusCore", "ApusKernel", "ApusGraph", "ApusOps", "ApusPlan", "ApusRuntime", "ApusCompiler", "ApusCPUTarget",
        "ApusCPUDevice", "ApusTesting", "Apus",
      ], exclude: ["Kernels"]),
  ]
)
