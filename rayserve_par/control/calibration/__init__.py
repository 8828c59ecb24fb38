"""Measures this machine's own GPUs, so that plans rest on them instead of on data sheets.

`measure.py` times memory and matrix products of one device, `collectives.py` the links between
all of them, `engine.py` one short run of the engine; `calibrate.py` makes a profile of the three.
Everything runs in child processes (`children.py`), which give the devices' memory back at their
end. Without a GPU the same is measured on the CPU, as what a logical GPU there has.
"""
