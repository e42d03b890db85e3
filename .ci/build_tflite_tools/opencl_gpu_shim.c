// libOpenCL.so where the only OpenCL device is a CPU (PoCL). TensorFlow Lite asks for CL_DEVICE_TYPE_GPU only and picks
// its memory layout by the maker it reads in the device's name: this answers with every device, and names no maker.
// ("AMD" would make it pick image buffers over sub-buffers, which PoCL has not: no model would load on such a CPU.)
// All other functions come from libOpenCL.so.1, which this library is linked with: dlsym() on a library searches its
// dependencies too.
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

typedef cl_int (*get_device_ids)(cl_platform_id, cl_device_type, cl_uint, cl_device_id *, cl_uint *);
typedef cl_int (*get_device_info)(cl_device_id, cl_device_info, size_t, void *, size_t *);

static void *real_function(const char *name) {
  void *library = dlopen("libOpenCL.so.1", RTLD_NOW);
  return library ? dlsym(library, name) : NULL;
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint size, cl_device_id *devices,
                      cl_uint *count) {
  get_device_ids real = (get_device_ids)real_function("clGetDeviceIDs");
  if (!real) return CL_DEVICE_NOT_FOUND;
  return real(platform, type == CL_DEVICE_TYPE_GPU ? CL_DEVICE_TYPE_ALL : type, size, devices, count);
}

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info what, size_t size, void *value, size_t *value_size) {
  static const char neutral_name[] = "PoCL";
  if (what == CL_DEVICE_NAME || what == CL_DEVICE_VENDOR) {
    if (value_size) *value_size = sizeof neutral_name;
    if (value && size < sizeof neutral_name) return CL_INVALID_VALUE;
    if (value) memcpy(value, neutral_name, sizeof neutral_name);
    return CL_SUCCESS;
  }
  get_device_info real = (get_device_info)real_function("clGetDeviceInfo");
  return real ? real(device, what, size, value, value_size) : CL_INVALID_DEVICE;
}
