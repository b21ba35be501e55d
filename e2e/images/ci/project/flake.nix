# What the samples of CI build with `nix build .#default`: without inputs, for nothing is fetched.
{
  outputs = { self }: {
    packages = builtins.listToAttrs (map (system: {
      name = system;
      value.default = derivation {
        name = "sample";
        inherit system;
        builder = "/bin/sh";
        args = [ "-euc" "echo 'built by a sample of CI' > $out" ];
      };
    }) [ "x86_64-linux" "aarch64-linux" ]);
  };
}
