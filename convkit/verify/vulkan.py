"""Find a Vulkan driver for the oracles that need one: the system's GPU, else SwiftShader on the CPU."""

from __future__ import annotations

import ctypes.util
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_DRIVER_FOLDERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")
# Where Debian, Ubuntu, Fedora and Google put the browser that ships SwiftShader and a Vulkan loader.
_BROWSER_FOLDERS = (
    "/usr/lib/chromium",
    "/usr/lib/chromium-browser",
    "/usr/lib64/chromium-browser",
    "/snap/chromium/current/usr/lib/chromium-browser",
    "/opt/google/chrome",
)
_SWIFTSHADER = "vk_swiftshader_icd.json"
_LOADER = "libvulkan.so.1"
_SOFTWARE_DRIVERS = ("lvp", "swiftshader")


@dataclass(frozen=True)
class VulkanSetup:
    """What a process needs to see a Vulkan device.

    `environment` is to be set for the process; `loader` is to be loaded before the first use where
    the system has no Vulkan loader of its own.
    """

    environment: dict[str, str] = field(default_factory=dict)
    loader: str | None = None


def _has_gpu_node() -> bool:
    return any(Path("/dev/dri").glob("renderD*")) or Path("/dev/nvidia0").exists()


def _system_drivers(folders: Iterable[str]) -> list[Path]:
    return sorted(p for folder in folders for p in Path(folder).glob("*.json"))


def find_vulkan(
    browser_folders: Iterable[str] = _BROWSER_FOLDERS, driver_folders: Iterable[str] = _DRIVER_FOLDERS
) -> VulkanSetup | str:
    """The Vulkan set-up of this machine, or a sentence that says what is missing.

    Order: VK_ICD_FILENAMES or VK_DRIVER_FILES of the user; the system's driver if there is a GPU;
    SwiftShader of a Chromium package; any software driver of the system.
    """
    environment = {}
    if not os.environ.get("XDG_RUNTIME_DIR"):
        environment["XDG_RUNTIME_DIR"] = tempfile.gettempdir()
    browsers = [Path(folder) for folder in browser_folders]
    loader = None
    if ctypes.util.find_library("vulkan") is None:
        loader = next((str(b / _LOADER) for b in browsers if (b / _LOADER).exists()), None)
        if loader is None:
            return f"no Vulkan loader ({_LOADER}); install the package libvulkan1 or chromium"
    if os.environ.get("VK_ICD_FILENAMES") or os.environ.get("VK_DRIVER_FILES"):
        return VulkanSetup(environment, loader)
    drivers = _system_drivers(driver_folders)
    real = [d for d in drivers if not d.name.startswith(_SOFTWARE_DRIVERS)]
    if real and _has_gpu_node():
        return VulkanSetup(environment, loader)
    swiftshader = next((b / _SWIFTSHADER for b in browsers if (b / _SWIFTSHADER).exists()), None)
    software = swiftshader or next((d for d in drivers if d not in real), None)
    if software is None:
        return "no Vulkan driver; install the package chromium (SwiftShader) or mesa-vulkan-drivers"
    return VulkanSetup({**environment, "VK_ICD_FILENAMES": str(software)}, loader)
