import ApusCPUDevice
import ApusCPUTarget
import ApusCompiler
package import ApusCore
import ApusRuntime

/// The environment settings of all modules: the only list of them.
package enum Knobs {
  package static let all: [Knob] = [
    .debug, .syncSteps, BuildCache.knob, Builder.dumpKnob, Tuner.knob, Tuner.libraries, Winograd.knob,
    CPUDevice.affinity,
  ]
}
