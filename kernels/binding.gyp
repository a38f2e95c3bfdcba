{
  "variables": {
    "common_cflags": ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"],
    "avx512_cflags": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
  },
  "target_defaults": {
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++20", "-std=gnu++17"],
    "cflags!": ["-O2"],
    "cflags_cc": ["-std=c++17", "<@(common_cflags)"],
    "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "xcode_settings": {
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "MACOSX_DEPLOYMENT_TARGET": "12.0",
      "OTHER_CFLAGS": ["<@(common_cflags)"]
    }
  },
  "targets": [
    {
      "target_name": "kernels_portable",
      "type": "static_library",
      "sources": ["src/native/kernels.cc"]
    },
    {
      "target_name": "kernels",
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")"],
      "sources": [
        "src/native/addon.cc",
        "src/native/beside.cc",
        "src/native/calibrate.cc",
        "src/native/calibrate_wrap.cc",
        "src/native/mapped_file.cc",
        "src/native/merge.cc",
        "src/native/merge_wrap.cc",
        "src/native/device.cc",
        "src/native/device_linear.cc",
        "src/native/device_wrap.cc",
        "src/native/group_pack.cc",
        "src/native/large_memory.cc",
        "src/native/pool.cc",
        "src/native/read_batch.cc",
        "src/native/settle.cc",
        "src/native/sha256.cc",
        "src/native/sha256_wrap.cc",
        "src/native/sign_pack.cc",
        "src/native/slabs.cc"
      ],
      "dependencies": ["kernels_portable"],
      "conditions": [
        ["target_arch=='x64'", { "dependencies": ["kernels_avx2", "kernels_avx512", "kernels_avx512_vnni"] }],
        ["target_arch=='arm64'", { "dependencies": ["kernels_neon"] }]
      ]
    }
  ],
  "conditions": [
    [
      "target_arch=='x64'",
      {
        "targets": [
          {
            "target_name": "kernels_avx2",
            "type": "static_library",
            "sources": ["src/native/kernels.cc"],
            "defines": ["SIGNPOST_AVX2"],
            "cflags_cc": ["-mavx2", "-mfma", "-mf16c"],
            "xcode_settings": { "OTHER_CFLAGS": ["-mavx2", "-mfma", "-mf16c"] }
          },
          {
            "target_name": "kernels_avx512_vnni",
            "type": "static_library",
            "sources": ["src/native/kernels.cc"],
            "defines": ["SIGNPOST_AVX512", "SIGNPOST_VNNI"],
            # GCC's own headers pass vectors of no value to intrinsics, and it warns of each.
            "cflags_cc": ["<@(avx512_cflags)", "-mavx512vnni", "-mprefer-vector-width=512", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
            "xcode_settings": { "OTHER_CFLAGS": ["<@(avx512_cflags)", "-mavx512vnni"] }
          },
          {
            "target_name": "kernels_avx512",
            "type": "static_library",
            "sources": ["src/native/kernels.cc"],
            "defines": ["SIGNPOST_AVX512"],
            "cflags_cc": ["<@(avx512_cflags)", "-mprefer-vector-width=512", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
            "xcode_settings": { "OTHER_CFLAGS": ["<@(avx512_cflags)"] }
          }
        ]
      }
    ],
    [
      "target_arch=='arm64'",
      {
        "targets": [
          {
            "target_name": "kernels_neon",
            "type": "static_library",
            "sources": ["src/native/kernels.cc"],
            "defines": ["SIGNPOST_NEON"]
          }
        ]
      }
    ]
  ]
}
