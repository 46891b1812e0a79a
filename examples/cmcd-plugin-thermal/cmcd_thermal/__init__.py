"""The modality "thermal". This module is light: options are checked before torch is imported."""

from pydantic import model_validator

from cmcd_core.plugin import Field, ModalityPlugin, Options, hookimpl


class ThermalOptions(Options):
    low_c: float = Field(-20.0, description="Temperature that becomes 0, in °C; what is colder is 0 too.")
    high_c: float = Field(60.0, description="Temperature that becomes 1, in °C; what is warmer is 1 too.")

    @model_validator(mode="after")
    def rising(self):
        if self.low_c >= self.high_c:
            raise ValueError(f"low_c ({self.low_c:g}) must be less than high_c ({self.high_c:g})")
        return self


def build(options: ThermalOptions):
    from .thermal import Thermal  # torch comes in here

    return Thermal(options)


@hookimpl
def cmcd_modalities():
    summary = "Thermal-infrared images: 16-bit PNG in hundredths of a kelvin, .npy or float TIFF in °C."
    return [ModalityPlugin(name="thermal", summary=summary, options=ThermalOptions, build=build)]
