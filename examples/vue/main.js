import { createApp } from "vue";
import Objects from "./Objects.vue";

createApp(Objects).mount("main");
