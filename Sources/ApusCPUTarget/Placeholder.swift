// ApusCPUTarget
